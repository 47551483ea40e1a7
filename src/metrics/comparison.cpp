#include "diffmask/metrics/comparison.hpp"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>

#include "diffmask/attribution/diffmask.hpp"
#include "diffmask/core/error.hpp"
#include "diffmask/core/random.hpp"
#include "diffmask/metrics/agreement.hpp"
#include "diffmask/metrics/known_answer.hpp"
#include "diffmask/metrics/ranking.hpp"
#include "diffmask/metrics/robustness.hpp"

namespace diffmask {
namespace {

enum ComparisonStream : uint64_t { kTies = 400, kSubsets, kPerturbations };

double mean_of(const at::Tensor& values) { return values.to(at::kDouble).nanmean().item<double>(); }

std::string percent(double share) { return fmt::format("{:g}%", 100 * share); }

// The means of one row, batch by batch, in the order in which they first came.
class Means {
 public:
  void add(const std::string& name, const at::Tensor& values) {
    const auto found = std::find_if(parts_.begin(), parts_.end(),
                                    [&](const auto& part) { return part.first == name; });
    auto& tensors = found == parts_.end()
                        ? parts_.emplace_back(name, std::vector<at::Tensor>{}).second
                        : found->second;
    tensors.push_back(values.to(at::kCPU, at::kDouble));
  }

  void write(ComparisonRow& row) const {
    for (const auto& [name, tensors] : parts_) {
      const at::Tensor all = at::cat(tensors);
      row.values.emplace_back(name, mean_of(all));
      row.each[name] = {all.data_ptr<double>(), all.data_ptr<double>() + all.numel()};
    }
  }

 private:
  std::vector<std::pair<std::string, std::vector<at::Tensor>>> parts_;
};

std::vector<bool> bools(const at::Tensor& values) {
  const at::Tensor flat = values.to(at::kCPU, at::kBool).contiguous();
  // With braces they would be a list of two pointers, both true.
  return std::vector<bool>(flat.data_ptr<bool>(), flat.data_ptr<bool>() + flat.numel());
}

std::vector<double> mean_curve(const std::vector<at::Tensor>& curves) {
  const at::Tensor mean = at::cat(curves).mean(0).contiguous();
  return {mean.data_ptr<double>(), mean.data_ptr<double>() + mean.numel()};
}

// One site's recorded batches, by which all methods are measured.
class SiteComparison {
 public:
  SiteComparison(std::shared_ptr<const FrozenModel> model, const Dataset& data, std::string site,
                 const ComparisonOptions& options)
      : model_(std::move(model)), site_(std::move(site)), options_(options) {
    FaithfulnessOptions faithfulness = options.faithfulness;
    faithfulness.site = site_;
    for (const auto& examples : length_batches(data, options.batch_size)) {
      meters_.push_back(
          std::make_unique<FaithfulnessMeter>(*model_, data.batch(examples), faithfulness));
    }
  }

  ComparisonRow row(const ComparedMethod& method, uint64_t seed) {
    ComparisonRow row{method.name, site_, seed, 0, {}, {}, {}, {}, {}};
    try {
      const Explain explain = method.make(model_, site_, seed);
      const Explain randomised =
          options_.randomised ? method.make(options_.randomised, site_, seed) : nullptr;
      if (!explain) {
        row.failure = "does not explain this site";
        return row;
      }
      measure(explain, randomised, row);
      sensitivity(method, row);
    } catch (const c10::Error& error) {
      row.failure = error.what_without_backtrace();
    } catch (const Error& error) {
      row.failure = error.what();
    }
    return row;
  }

 private:
  void measure(const Explain& explain, const Explain& randomised, ComparisonRow& row) {
    const auto stream = [&](uint64_t number) {
      return make_generator(derive_seed(row.seed, number));
    };
    const at::Generator ties = stream(kTies), subsets = stream(kSubsets);
    Means means;
    std::vector<at::Tensor> deletion, insertion, scores;
    double seconds = 0, passes = 0, examples = 0;
    for (const auto& meter : meters_) {
      const Batch& batch = meter->batch();
      const auto began = std::chrono::steady_clock::now();
      const Attribution attribution = explain(batch);
      seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
      passes += static_cast<double>(attribution.passes);
      examples += static_cast<double>(batch.size());
      scores.push_back(attribution.scores.select(2, 0));
      own_choice(*meter, attribution.keep.select(2, 0), means);
      equal_rates(*meter, scores.back(), ties, means);
      const Faithfulness result = meter->measure(scores.back(), ties);
      means.add("comprehensiveness", result.comprehensiveness);
      means.add("sufficiency", result.sufficiency);
      means.add("log-odds", result.log_odds);
      means.add("deletion AUC", result.deletion_auc);
      means.add("insertion AUC", result.insertion_auc);
      means.add("infidelity",
                meter->subset_infidelity(scores.back(),
                                         meter->random_subsets(options_.subsets, subsets), true));
      if (attribution.gap.defined())
        means.add("completeness gap", attribution.gap.select(1, 0).abs());
      if (randomised && meter.get() == &typical()) {
        means.add("randomisation correlation",
                  row_spearman(scores.back(), randomised(batch).scores.select(2, 0), batch.mask));
      }
      if (options_.truth) known(batch, scores.back(), attribution.keep.select(2, 0), means);
      deletion.push_back(result.deletion);
      insertion.push_back(result.insertion);
    }
    agreement(row, scores, means);
    row.deletion = mean_curve(deletion);
    row.insertion = mean_curve(insertion);
    means.write(row);
    row.values.emplace_back("seconds per 1,000", 1000 * seconds / examples);
    row.values.emplace_back("passes", passes / examples);
  }

  // The batch of middling length, for tests that explain again and so cost as much as the method.
  FaithfulnessMeter& typical() const { return *meters_[meters_.size() / 2]; }

  // Of methods that can explain a model which begins at the site.
  void sensitivity(const ComparedMethod& method, ComparisonRow& row) const {
    if (options_.sensitivity_examples == 0) return;
    Batch batch = typical().batch();
    const at::Tensor rows = at::arange(std::min(options_.sensitivity_examples, batch.size()),
                                       batch.mask.options().dtype(at::kLong));
    for (at::Tensor& input : batch.inputs) input = input.index_select(0, rows);
    for (at::Tensor* part : {&batch.mask, &batch.examples, &batch.labels, &batch.groups}) {
      if (part->defined()) *part = part->index_select(0, rows);
    }
    const Explanation explain =
        explanation_at(model_, batch, site_, [&](const auto& begun, const Batch& states) {
          const Explain made = method.make(begun, site_, row.seed);
          if (!made) throw Error("does not explain other states");
          return made(states);
        });
    const at::Tensor state = typical().recording().state(site_).index_select(0, rows);
    try {
      const at::Tensor changes = uniform_perturbations(
          state, options_.perturbations, options_.radius * state.std().item<double>(),
          make_generator(derive_seed(row.seed, kPerturbations)));
      row.values.emplace_back("sensitivity-max", mean_of(sensitivity_max(explain, state, changes)));
    } catch (const std::exception&) {
      // A method that needs the model's operators, or a trained explainer: it has no such value.
    }
  }

  void own_choice(FaithfulnessMeter& meter, const at::Tensor& keep, Means& means) const {
    const MaskEffect own = meter.apply(keep);
    means.add("kept", own.kept);
    means.add("D", own.divergence);
    means.add("D <= eps", own.divergence.le(options_.epsilon));
    means.add("same prediction", own.agrees);
  }

  void equal_rates(FaithfulnessMeter& meter, const at::Tensor& scores, const at::Generator& ties,
                   Means& means) const {
    for (const double rate : options_.keep_rates) {
      const auto [keep, tied] = meter.top(scores, rate, ties);
      const MaskEffect effect = meter.apply(keep);
      const std::string at_rate = " at " + percent(rate);
      means.add("sufficiency" + at_rate, effect.sufficiency);
      means.add("comprehensiveness" + at_rate, effect.comprehensiveness);
      means.add("D" + at_rate, effect.divergence);
      means.add("D <= eps" + at_rate, effect.divergence.le(options_.epsilon));
      means.add("tied" + at_rate, tied);
    }
  }

  // Of the rows that have something true.
  void known(const Batch& batch, const at::Tensor& scores, const at::Tensor& keep,
             Means& means) const {
    const at::Tensor truth = options_.truth(batch).logical_and(batch.mask);
    if (!truth.any().item<bool>()) return;
    const KnownAnswer answer = known_answer(truth, scores.abs(), batch.mask);
    means.add("D_KL", answer.kls);
    means.add("D_JS", answer.jss);
    for (int64_t row = 0; row < batch.size(); ++row) {
      if (!truth[row].any().item<bool>()) continue;
      const at::Tensor inside = batch.mask[row].nonzero().squeeze(1);
      const auto chosen = bools(keep[row].index_select(0, inside));
      const at::Tensor is_true = truth[row].index_select(0, inside);
      const auto wanted = bools(is_true);
      const double precision =
          average_precision(scores[row].index_select(0, inside).abs(), is_true);
      for (const auto& [name, value] :
           {std::pair{"token F1", choice_f1(chosen, wanted)},
            std::pair{"IOU", choice_iou(chosen, wanted)},
            std::pair{"IOU F1", span_iou_f1(chosen, wanted)}, std::pair{"AUPRC", precision}}) {
        means.add(name, at::full({1}, value, at::kDouble));
      }
    }
  }

  // With the first seed's scores, from the second seed on.
  void agreement(const ComparisonRow& row, const std::vector<at::Tensor>& scores, Means& means) {
    if (row.seed == options_.seed) {
      first_scores_[row.method] = scores;
      return;
    }
    const auto found = first_scores_.find(row.method);
    if (found == first_scores_.end()) return;
    for (size_t i = 0; i < scores.size(); ++i) {
      const at::Tensor& mask = meters_[i]->batch().mask;
      means.add("rank agreement", row_spearman(scores[i], found->second[i], mask));
      means.add("top-k agreement",
                top_agreement(scores[i], found->second[i], mask, options_.keep_rates.front()));
    }
  }

  std::shared_ptr<const FrozenModel> model_;
  std::string site_;
  const ComparisonOptions& options_;
  std::vector<std::unique_ptr<FaithfulnessMeter>> meters_;
  std::map<std::string, std::vector<at::Tensor>> first_scores_;
};

}  // namespace

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

std::vector<ComparedMethod> compared_methods(const std::vector<std::string>& names,
                                             const AttributionOptions& options,
                                             const MethodSettings& settings) {
  std::vector<ComparedMethod> compared;
  for (const std::string& name : names.empty() ? method_names() : names) {
    const Method& chosen = method(name);
    compared.push_back({name,
                        [&chosen, options, settings](const auto& model, const auto& site,
                                                     uint64_t seed) -> Explain {
                          AttributionOptions at_site = options;
                          at_site.sites = {site};
                          MethodSettings seeded = settings;
                          seeded.seed = seed;
                          const std::shared_ptr<const Attributor> made =
                              chosen.make(model, at_site, seeded);
                          return [made](const Batch& batch) { return made->attribute(batch); };
                        }});
  }
  return compared;
}

ComparedMethod compared_explainer(const std::string& name, std::shared_ptr<const FrozenModel> own,
                                  std::shared_ptr<const DiffMask> method) {
  require(method != nullptr, "method", "an explainer", "a null pointer");
  return {name, [own, method](const auto& model, const std::string& site, uint64_t) -> Explain {
            const Explainer& explainer = method->explainer();
            int64_t depth = explainer.depths() - 1;
            while (depth >= 0 && explainer.masked_site(depth) != site) --depth;
            if (depth < 0 || model != own) return nullptr;
            return [method, depth](const Batch& batch) {
              const Attribution all = method->attribute(batch);
              Attribution one{{all.sites[static_cast<size_t>(depth)]},
                              all.scores.narrow(2, depth, 1),
                              all.keep.narrow(2, depth, 1),
                              all.mask};
              one.passes = all.mask.size(0);  // it reads one recording
              return one;
            };
          }};
}

void ComparisonOptions::validate() const {
  require(!sites.empty(), "sites", "at least one", "none");
  faithfulness.validate();
  require(epsilon > 0, "epsilon", "> 0", epsilon);
  require(!keep_rates.empty(), "keep_rates", "at least one", "none");
  for (const double rate : keep_rates) {
    require(rate > 0 && rate <= 1, "keep_rates", "in (0, 1]", rate);
  }
  require(seeds >= 1, "seeds", ">= 1", seeds);
  require(batch_size >= 1, "batch_size", ">= 1", batch_size);
  require(subsets >= 1, "subsets", ">= 1", subsets);
  require(sensitivity_examples >= 0, "sensitivity_examples", ">= 0", sensitivity_examples);
  require(perturbations >= 1, "perturbations", ">= 1", perturbations);
  require(radius > 0, "radius", "> 0", radius);
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

std::vector<Comparison::Summary> Comparison::summaries() const {
  std::vector<Summary> result;
  const std::vector<std::string> names = metrics();
  for (const ComparisonRow& row : rows) {
    const auto same = [&](const auto& other) {
      return other.method == row.method && other.site == row.site;
    };
    if (std::any_of(result.begin(), result.end(), same)) continue;
    Summary summary{row.method, row.site, row.failure, {}, {}, {}, 0};
    std::vector<const ComparisonRow*> runs;
    for (const ComparisonRow& other : rows) {
      if (same(other)) runs.push_back(&other);
    }
    summary.runs = static_cast<int64_t>(runs.size());
    for (const ComparisonRow* run : runs) {
      if (summary.failure.empty()) summary.failure = run->failure;
    }
    for (const std::string& name : names) {
      std::vector<double> numbers;
      summary.each.push_back(each_of(runs, name));
      for (const ComparisonRow* run : runs) {
        if (!std::isnan(run->value(name))) numbers.push_back(run->value(name));
      }
      if (numbers.empty()) {
        summary.mean.push_back(NAN);
        summary.worst.push_back(NAN);
        continue;
      }
      double sum = 0;
      for (const double number : numbers) sum += number;
      summary.mean.push_back(sum / static_cast<double>(numbers.size()));
      const auto [least, most] = std::minmax_element(numbers.begin(), numbers.end());
      const Better better = better_of(name);
      summary.worst.push_back(better == Better::neither ? NAN
                              : better == Better::lower ? *most
                                                        : *least);
    }
    result.push_back(std::move(summary));
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

bool differ(const Comparison::Summary& a, const Comparison::Summary& b, size_t metric) {
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

Comparison compare(const std::shared_ptr<const FrozenModel>& model, const Dataset& data,
                   const std::vector<ComparedMethod>& methods, const ComparisonOptions& options) {
  require(model != nullptr, "model", "a model", "a null pointer");
  options.validate();
  require(!methods.empty(), "methods", "at least one", "none");
  require(data.size() >= 1, "data", "of at least one example", data.size());
  for (const std::string& site : options.sites) model->site(site);
  Comparison comparison;
  for (const std::string& site : options.sites) {
    SiteComparison measured(model, data, site, options);
    for (const ComparedMethod& method : methods) {
      for (int64_t run = 0; run < options.seeds; ++run) {
        comparison.rows.push_back(measured.row(method, options.seed + static_cast<uint64_t>(run)));
        if (options.progress) options.progress(method.name, site);
      }
    }
  }
  return comparison;
}

}  // namespace diffmask
