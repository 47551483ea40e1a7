#include "diffmask/report/comparison_report.hpp"

#include <fmt/format.h>
#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>
#include <vector>

#include "diffmask/core/error.hpp"
#include "diffmask/report/chart.hpp"
#include "report/markup.hpp"

namespace diffmask {
namespace {

using Line = Comparison::Entry;                       // a method at a site
using Table = std::vector<std::vector<std::string>>;  // the first row is the head

struct Section {
  std::string title;
  bool is_fair;  // whether a best one may be told
  bool (*holds)(const std::string& metric);
};

bool is_at_rate(const std::string& metric) { return metric.find(" at ") != metric.npos; }

bool is_own(const std::string& metric) {
  for (const char* name : {"kept", "D", "D <= eps", "same prediction", "token F1", "IOU", "IOU F1",
                           "completeness gap", "seconds per 1,000", "passes"}) {
    if (metric == name) return true;
  }
  return false;
}

const Section kSections[] = {
    {"At its own choice of what to keep, and what it costs", false, is_own},
    {"By its ranking", true,
     [](const std::string& metric) { return !is_own(metric) && !is_at_rate(metric); }},
    {"At equal keep rates", true, is_at_rate},
};

std::string number(double value) {
  if (std::isnan(value)) return "-";
  if (std::isinf(value)) return "inf";
  return std::abs(value) >= 100 ? fmt::format("{:.0f}", value) : fmt::format("{:.4f}", value);
}

std::string cell(const Line& summary, size_t metric) {
  const double mean = summary.mean[metric], worst = summary.worst[metric];
  const bool spread = !std::isnan(worst) && number(worst) != number(mean);
  return spread ? fmt::format("{} ({})", number(mean), number(worst)) : number(mean);
}

std::string head(const std::string& metric) {
  const Better better = better_of(metric);
  return metric + (better == Better::higher ? " \u2191" : better == Better::lower ? " \u2193" : "");
}

// From the best mean on, those that are not told from it, up to the first that is; none where no
// direction is better.
std::set<const Line*> best_of(const std::vector<Line>& rows, size_t metric, Better better) {
  std::vector<const Line*> order;
  for (const Line& row : rows) {
    if (row.failure.empty() && !std::isnan(row.mean[metric])) order.push_back(&row);
  }
  if (better == Better::neither || order.empty()) return {};
  std::stable_sort(order.begin(), order.end(), [&](const Line* a, const Line* b) {
    const double x = a->mean[metric], y = b->mean[metric];
    return better == Better::higher ? x > y : x < y;
  });
  const auto end = std::find_if(order.begin() + 1, order.end(), [&](const Line* row) {
    return differ(*row, *order.front(), metric);
  });
  return {order.begin(), end};
}

// The rows of a site, in the part's columns.
Table table(const std::vector<Line>& rows, const std::vector<std::string>& metrics,
            const Section& part, const char* bold, const char* bold_end) {
  Table table{{"method"}};
  for (const Line& row : rows) table.push_back({row.method});
  for (size_t m = 0; m < metrics.size(); ++m) {
    if (!part.holds(metrics[m])) continue;
    table[0].push_back(head(metrics[m]));
    std::set<const Line*> best;
    if (part.is_fair) best = best_of(rows, m, better_of(metrics[m]));
    for (size_t r = 0; r < rows.size(); ++r) {
      const std::string text = rows[r].failure.empty() ? cell(rows[r], m) : "-";
      table[r + 1].push_back(best.contains(&rows[r]) ? bold + text + bold_end : text);
    }
  }
  return table;
}

struct SiteRows {
  std::string site;
  std::vector<Line> rows;
};

std::vector<SiteRows> by_site(const Comparison& comparison) {
  std::vector<SiteRows> sites;
  for (Line& summary : comparison.entries()) {
    if (sites.empty() || sites.back().site != summary.site) {
      const auto found = std::find_if(sites.begin(), sites.end(),
                                      [&](const auto& s) { return s.site == summary.site; });
      if (found != sites.end()) {
        found->rows.push_back(std::move(summary));
        continue;
      }
      sites.push_back({summary.site, {}});
    }
    sites.back().rows.push_back(std::move(summary));
  }
  return sites;
}

// Every table of a comparison, handed over with its site and part.
template <typename Use>
void for_each_table(const Comparison& comparison, const char* bold, const char* bold_end,
                    const Use& use) {
  const std::vector<std::string> metrics = comparison.metrics();
  for (const SiteRows& site : by_site(comparison)) {
    for (const Section& part : kSections) {
      const Table made = table(site.rows, metrics, part, bold, bold_end);
      if (made[0].size() > 1) use(site, part, made);
    }
  }
}

std::string chart_of(const Comparison& comparison, const std::string& site, const char* name,
                     std::vector<double> ComparisonRow::*curve) {
  Chart chart{fmt::format("{} at {}", name, site), "share", name, {}};
  for (const ComparisonRow& row : comparison.rows) {
    const auto has = [&](const Curve& c) { return c.name == row.method; };
    const std::vector<double>& values = row.*curve;
    if (row.site != site || values.size() < 2) continue;
    if (std::any_of(chart.curves.begin(), chart.curves.end(), has)) continue;  // another run
    Curve points{row.method, {}, row.method == "uniform" || row.method == "random"};
    for (size_t i = 0; i < values.size(); ++i) {
      points.points.emplace_back(static_cast<double>(i) / static_cast<double>(values.size() - 1),
                                 values[i]);
    }
    chart.curves.push_back(std::move(points));
  }
  return chart.curves.empty() ? "" : svg_chart(chart);
}

std::string failures(const SiteRows& site, const char* begin, const char* end) {
  std::string text;
  for (const Line& row : site.rows) {
    if (!row.failure.empty())
      text += fmt::format("{}{}: {}{}", begin, row.method, row.failure, end);
  }
  return text;
}

}  // namespace

std::string markdown_comparison(const Comparison& comparison) {
  std::string text, last;
  for_each_table(comparison, "**", "**",
                 [&](const SiteRows& site, const Section& part, const Table& table) {
                   if (site.site != last) {
                     text += fmt::format("## {}\n\n{}", site.site, failures(site, "- ", "\n\n"));
                     last = site.site;
                   }
                   text += fmt::format("{}:\n\n", part.title);
                   for (size_t row = 0; row < table.size(); ++row) {
                     for (const std::string& entry : table[row])
                       text += fmt::format("| {} ", entry);
                     text += "|\n";
                     if (row > 0) continue;
                     for (size_t column = 0; column < table[0].size(); ++column) text += "|---";
                     text += "|\n";
                   }
                   text += "\n";
                 });
  return text;
}

std::string json_comparison(const Comparison& comparison) {
  using nlohmann::json;
  json metrics = json::array(), rows = json::array();
  for (const std::string& name : comparison.metrics()) {
    const Better better = better_of(name);
    metrics.push_back({{"name", name}, {"better", nullptr}});
    if (better != Better::neither) {
      metrics.back()["better"] = better == Better::higher ? "higher" : "lower";
    }
  }
  for (const ComparisonRow& row : comparison.rows) {
    json values = json::object();
    for (const auto& [name, value] : row.values) {
      values[name] = std::isinf(value) ? json("inf") : json(value);  // NaN is written as null
    }
    rows.push_back({{"method", row.method},
                    {"site", row.site},
                    {"seed", row.seed},
                    {"failure", row.failure},
                    {"values", values},
                    {"deletion", row.deletion},
                    {"insertion", row.insertion}});
  }
  return json{{"metrics", metrics}, {"rows", rows}}.dump(2, ' ', false,
                                                         json::error_handler_t::replace) +
         "\n";
}

std::string html_comparison(const std::string& title, const std::string& introduction,
                            const Comparison& comparison) {
  std::string body, last;
  for_each_table(
      comparison, "\1", "\2", [&](const SiteRows& site, const Section& part, const Table& table) {
        if (site.site != last) {
          body += fmt::format("<h2>{}</h2>\n", escaped(site.site));
          for (const Line& row : site.rows) {
            if (row.failure.empty()) continue;
            body += fmt::format("<p>{}: {}</p>\n", escaped(row.method), escaped(row.failure));
          }
          body += chart_of(comparison, site.site, "deletion", &ComparisonRow::deletion) +
                  chart_of(comparison, site.site, "insertion", &ComparisonRow::insertion);
          last = site.site;
        }
        body += fmt::format("<h3>{}</h3>\n<div><table>\n", part.title);
        for (size_t row = 0; row < table.size(); ++row) {
          body += "<tr>";
          for (const std::string& entry : table[row]) {
            const bool best = !entry.empty() && entry.front() == '\1';
            const std::string plain = best ? entry.substr(1, entry.size() - 2) : entry;
            const char* tag = row == 0 ? "th" : "td";
            body += fmt::format("<{0}{1}>{2}</{0}>", tag, best ? " class=\"best\"" : "",
                                escaped(plain));
          }
          body += "</tr>\n";
        }
        body += "</table></div>\n";
      });
  return fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<title>{0}</title>\n"
      "<style>\nbody {{ font: 15px/1.5 system-ui, sans-serif; margin: 2em; color: #222; "
      "background: #fff }}\ndiv {{ overflow-x: auto }}\ntable {{ border-collapse: collapse }}\n"
      "th, td {{ padding: .2em .6em; text-align: right; border-bottom: 1px solid #ddd }}\n"
      "th:first-child, td:first-child {{ text-align: left }}\n.best {{ font-weight: 700 }}\n"
      "</style>\n</head>\n<body>\n<h1>{0}</h1>\n<p>{1}</p>\n{2}</body>\n</html>\n",
      escaped(title), escaped(introduction), body);
}

}  // namespace diffmask
