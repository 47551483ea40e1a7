#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "diffmask/metrics/comparison.hpp"

namespace diffmask {

const std::vector<Metric>& known_metrics() {
  using enum Better;
  static const std::vector<Metric> all = {
      {"kept", neither},
      {"D", lower},
      {"D <= eps", higher},
      {"same prediction", higher},
      {"comprehensiveness", higher},
      {"sufficiency", lower},
      {"log-odds", lower},
      {"deletion AUC", lower},
      {"insertion AUC", higher},
      {"infidelity", lower},
      {"sensitivity-max", lower},
      {"completeness gap", lower},
      {"randomisation correlation", lower},
      {"rank agreement", higher},
      {"top-k agreement", higher},
      {"token F1", higher},
      {"IOU", higher},
      {"IOU F1", higher},
      {"AUPRC", higher},
      {"D_KL", lower},
      {"D_JS", lower},
      {"tied", neither},
      {"seconds per 1,000", lower},
      {"passes", lower},
  };
  return all;
}

Better better_of(const std::string& name) {
  const std::string base = name.substr(0, name.find(" at "));
  for (const Metric& metric : known_metrics()) {
    if (metric.name == base) return metric.better;
  }
  return Better::neither;
}

double ComparisonRow::value(const std::string& metric) const {
  for (const auto& [name, number] : values) {
    if (name == metric) return number;
  }
  return NAN;
}

std::vector<std::string> Comparison::metrics() const {
  std::vector<std::string> names;
  for (const ComparisonRow& row : rows) {
    for (size_t i = 0; i < row.values.size(); ++i) {
      const std::string& name = row.values[i].first;
      if (std::find(names.begin(), names.end(), name) != names.end()) continue;
      // After the one that it follows here, so that what few rows have is not last.
      const auto before =
          i == 0 ? names.end() : std::find(names.begin(), names.end(), row.values[i - 1].first);
      names.insert(before == names.end() ? names.end() : before + 1, name);
    }
  }
  return names;
}

namespace {

// The examples' values, each the mean of its subject's runs; none where these are not as many.
std::vector<double> each_of(const std::vector<const ComparisonRow*>& runs,
                            const std::string& metric) {
  std::map<int64_t, std::pair<std::vector<double>, double>> subjects;  // sums, and of how many
  for (const ComparisonRow* run : runs) {
    const auto found = run->each.find(metric);
    if (found == run->each.end()) return {};
    auto& [sums, count] = subjects[run->subject];
    if (count++ == 0) sums.resize(found->second.size());
    if (sums.size() != found->second.size()) return {};
    for (size_t i = 0; i < sums.size(); ++i) sums[i] += found->second[i];
  }
  std::vector<double> result;
  for (const auto& [subject, total] : subjects) {
    for (const double sum : total.first) result.push_back(sum / total.second);
  }
  return result;
}

}  // namespace

std::vector<Comparison::Entry> Comparison::entries() const {
  std::vector<Entry> result;
  const std::vector<std::string> names = metrics();
  for (const ComparisonRow& row : rows) {
    const auto same = [&](const auto& other) {
      return other.method == row.method && other.site == row.site;
    };
    if (std::any_of(result.begin(), result.end(), same)) continue;
    Entry entry{row.method, row.site, row.failure, {}, {}, {}, 0};
    std::vector<const ComparisonRow*> runs;
    for (const ComparisonRow& other : rows) {
      if (same(other)) runs.push_back(&other);
    }
    entry.runs = static_cast<int64_t>(runs.size());
    for (const ComparisonRow* run : runs) {
      if (entry.failure.empty()) entry.failure = run->failure;
    }
    for (const std::string& name : names) {
      std::vector<double> numbers;
      entry.each.push_back(each_of(runs, name));
      for (const ComparisonRow* run : runs) {
        if (!std::isnan(run->value(name))) numbers.push_back(run->value(name));
      }
      if (numbers.empty()) {
        entry.mean.push_back(NAN);
        entry.worst.push_back(NAN);
        continue;
      }
      double sum = 0;
      for (const double number : numbers) sum += number;
      entry.mean.push_back(sum / static_cast<double>(numbers.size()));
      const auto [least, most] = std::minmax_element(numbers.begin(), numbers.end());
      const Better better = better_of(name);
      entry.worst.push_back(better == Better::neither ? NAN
                            : better == Better::lower ? *most
                                                      : *least);
    }
    result.push_back(std::move(entry));
  }
  return result;
}

void Comparison::add(Comparison other) {
  const int64_t subjects = rows.empty() ? 0 : rows.back().subject + 1;
  for (ComparisonRow& row : other.rows) {
    row.subject += subjects;
    rows.push_back(std::move(row));
  }
}

bool differ(const Comparison::Entry& a, const Comparison::Entry& b, size_t metric) {
  const std::vector<double>&x = a.each.at(metric), &y = b.each.at(metric);
  double n = 0, sum = 0, squares = 0;
  for (size_t i = 0; i < x.size() && x.size() == y.size(); ++i) {
    const double d = x[i] - y[i];
    if (!std::isfinite(d)) continue;
    n += 1;
    sum += d;
    squares += d * d;
  }
  const bool finite = std::isfinite(a.mean.at(metric)) && std::isfinite(b.mean.at(metric));
  if (n < 2 || !finite) return a.mean.at(metric) != b.mean.at(metric);
  const double mean = sum / n, variance = (squares - n * mean * mean) / (n - 1);
  return mean * mean > 4 * variance / n;
}

}  // namespace diffmask
