// What a MaskExperiment prints and writes.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "diffmask/metrics/mask_experiment.hpp"

namespace diffmask {
namespace {

using nlohmann::json;

std::string text(const Figure& figure, double value) {
  return figure.is_share ? fmt::format("{:.1f}%", 100 * value) : fmt::format("{:.3f}", value);
}

// A table's rows, whose columns are as wide as what is in them.
class Table {
 public:
  Table(const std::string& title, const std::vector<Figure>& figures) : figures_(figures) {
    std::vector<std::string> head = {title};
    for (const Figure& figure : figures) head.push_back(figure.name);
    for (const char* name : {"masked", "D", "D<=eps"}) head.emplace_back(name);
    rows_.push_back(std::move(head));
  }

  void add(const std::string& name, const MaskScore& score) {
    std::vector<std::string> row = {name};
    for (size_t i = 0; i < figures_.size(); ++i) {
      row.push_back(text(figures_[i], score.figures[i]));
    }
    row.push_back(fmt::format("{:.1f}%", 100 * score.masked_share));
    // Rounding leaves a little less than 0, which would be printed as -0.0000.
    row.push_back(
        fmt::format("{:.4f}", std::abs(score.divergence) < 5e-5 ? 0.0 : score.divergence));
    row.push_back(fmt::format("{:.1f}%", 100 * score.within_epsilon));
    rows_.push_back(std::move(row));
  }

  void add(const std::string& name, const DepthScore& depth,
           const std::vector<std::string>& controls) {
    add(name, depth.chosen);
    for (size_t i = 0; i < controls.size(); ++i) add("  " + controls[i], depth.controls[i]);
  }

  void skip() { rows_.push_back({""}); }

  std::string text_of_all() const {
    std::vector<size_t> widths(rows_.front().size(), 0);
    for (const auto& row : rows_) {
      for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
    }
    std::string all;
    for (const auto& row : rows_) {
      std::string line = fmt::format("  {:<{}}", row[0], row.size() > 1 ? widths[0] : 0);
      for (size_t i = 1; i < row.size(); ++i) line += fmt::format("  {:>{}}", row[i], widths[i]);
      all += (row.size() > 1 ? line : "") + "\n";
    }
    return all;
  }

 private:
  const std::vector<Figure>& figures_;
  std::vector<std::vector<std::string>> rows_;
};

json to_json(const std::vector<Figure>& figures, const MaskScore& score) {
  json row = {{"masked_share", score.masked_share},
              {"divergence", score.divergence},
              {"within_epsilon", score.within_epsilon}};
  for (size_t i = 0; i < figures.size(); ++i) row[figures[i].name] = score.figures[i];
  return row;
}

}  // namespace

std::string MaskExperiment::brief_report() const {
  std::string report;
  for (const GatingScore& gating : gatings) {
    const DepthScore summary = gating.summary();
    std::vector<std::string> parts;
    for (size_t i = 0; i < figures.size(); ++i) {
      std::vector<std::string> beside;
      for (size_t c = 0; c < controls.size(); ++c) {
        beside.push_back(
            fmt::format("{} {}", controls[c], text(figures[i], summary.controls[c].figures[i])));
      }
      beside.push_back(fmt::format("original {}", text(figures[i], original.figures[i])));
      parts.push_back(fmt::format("{} {} ({})", figures[i].name,
                                  text(figures[i], summary.chosen.figures[i]),
                                  fmt::join(beside, ", ")));
    }
    report += fmt::format("{}: {:.1f}% masked; {}\n", gating.name,
                          100 * summary.chosen.masked_share, fmt::join(parts, ", "));
  }
  return report;
}

std::string MaskExperiment::full_report(const std::string& title) const {
  Table table(title, figures);
  table.add("original", original);
  for (const GatingScore& gating : gatings) {
    for (const DepthScore& depth : gating.depths) {
      table.add(fmt::format("{}, {}", gating.name, depth.site), depth, controls);
    }
  }
  table.skip();
  for (const GatingScore& gating : gatings) {
    const char* what = gating.masking == Masking::input ? "last depth" : "mean of depths";
    table.add(fmt::format("{}, {}", gating.name, what), gating.summary(), controls);
  }
  return table.text_of_all();
}

std::string MaskExperiment::json() const {
  nlohmann::json report = {{"original", to_json(figures, original)}};
  for (const GatingScore& gating : gatings) {
    report[gating.name]["epsilon"] = gating.epsilon;
    const auto add = [&](const std::string& key, const DepthScore& depth, const MaskScore& score,
                         bool is_summary) {
      nlohmann::json row = to_json(figures, score);
      if (is_summary) {
        report[key]["summary"] = std::move(row);
        return;
      }
      row["depth"] = depth.site;
      report[key]["depths"].push_back(std::move(row));
    };
    const auto add_all = [&](const DepthScore& depth, bool is_summary) {
      add(gating.name, depth, depth.chosen, is_summary);
      for (size_t i = 0; i < controls.size(); ++i) {
        add(fmt::format("{}_{}", controls[i], gating.name), depth, depth.controls[i], is_summary);
      }
    };
    for (const DepthScore& depth : gating.depths) add_all(depth, /*is_summary=*/false);
    add_all(gating.summary(), /*is_summary=*/true);
  }
  return report.dump(2) + "\n";
}

}  // namespace diffmask
