#include "metrics/site_comparison.hpp"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <exception>
#include <utility>

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

std::vector<bool> bools(const at::Tensor& values) {
  const at::Tensor flat = values.to(at::kCPU, at::kBool).contiguous();
  // With braces they would be a list of two pointers, both true.
  return std::vector<bool>(flat.data_ptr<bool>(), flat.data_ptr<bool>() + flat.numel());
}

std::vector<double> mean_curve(const std::vector<at::Tensor>& curves) {
  const at::Tensor mean = at::cat(curves).mean(0).cpu().contiguous();
  return {mean.data_ptr<double>(), mean.data_ptr<double>() + mean.numel()};
}

}  // namespace

class ExampleValues {
 public:
  void add(const std::string& metric, const at::Tensor& values) {
    const auto found = std::find_if(parts_.begin(), parts_.end(),
                                    [&](const auto& part) { return part.first == metric; });
    auto& tensors = found == parts_.end()
                        ? parts_.emplace_back(metric, std::vector<at::Tensor>{}).second
                        : found->second;
    tensors.push_back(values.to(at::kCPU, at::kDouble));
  }

  /// Metrics stand in the order in which they first came.
  void write(ComparisonRow& row) const {
    for (const auto& [metric, tensors] : parts_) {
      const at::Tensor all = at::cat(tensors);
      row.values.emplace_back(metric, mean_of(all));
      row.each[metric] = {all.data_ptr<double>(), all.data_ptr<double>() + all.numel()};
    }
  }

 private:
  std::vector<std::pair<std::string, std::vector<at::Tensor>>> parts_;
};

namespace {

void add_ranking(const Faithfulness& result, ExampleValues& values) {
  values.add("comprehensiveness", result.comprehensiveness);
  values.add("sufficiency", result.sufficiency);
  values.add("log-odds", result.log_odds);
  values.add("deletion AUC", result.deletion_auc);
  values.add("insertion AUC", result.insertion_auc);
}

}  // namespace

SiteComparison::SiteComparison(std::shared_ptr<const FrozenModel> model, const Dataset& data,
                               std::string site, const ComparisonOptions& options)
    : model_(std::move(model)), site_(std::move(site)), options_(options) {
  FaithfulnessOptions faithfulness = options.faithfulness;
  faithfulness.site = site_;
  for (const auto& examples : length_batches(data, options.batch_size)) {
    meters_.push_back(
        std::make_unique<FaithfulnessMeter>(*model_, data.batch(examples), faithfulness));
  }
  typical_ = meters_.at(meters_.size() / 2).get();  // of middling length
}

ComparisonRow SiteComparison::row(const ComparedMethod& method, uint64_t seed) {
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
    measure_sensitivity(method, row);
  } catch (const c10::Error& error) {
    row.failure = error.what_without_backtrace();
  } catch (const Error& error) {
    row.failure = error.what();
  }
  return row;
}

void SiteComparison::measure(const Explain& explain, const Explain& randomised,
                             ComparisonRow& row) {
  const auto stream = [&](uint64_t number) {
    return make_generator(derive_seed(row.seed, number));
  };
  const at::Generator ties = stream(kTies), subsets = stream(kSubsets);
  ExampleValues values;
  std::vector<at::Tensor> deletion, insertion, scores;
  double seconds = 0, passes = 0, examples = 0;
  for (const auto& meter : meters_) {
    const Batch& batch = meter->batch();
    const auto began = std::chrono::steady_clock::now();
    const Attribution attribution = explain(batch);
    seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
    passes += static_cast<double>(attribution.passes);
    examples += static_cast<double>(batch.size());
    const at::Tensor keep = attribution.keep.select(2, 0);
    scores.push_back(attribution.scores.select(2, 0));
    measure_own_choice(*meter, keep, values);
    measure_equal_rates(*meter, scores.back(), ties, values);
    const Faithfulness result = meter->measure(scores.back(), ties);
    add_ranking(result, values);
    deletion.push_back(result.deletion);
    insertion.push_back(result.insertion);
    values.add("infidelity",
               meter->subset_infidelity(scores.back(),
                                        meter->random_subsets(options_.subsets, subsets), true));
    if (attribution.gap.defined()) {
      values.add("completeness gap", attribution.gap.select(1, 0).abs());
    }
    if (randomised && meter.get() == typical_) {
      values.add("randomisation correlation",
                 row_spearman(scores.back(), randomised(batch).scores.select(2, 0), batch.mask));
    }
    if (options_.truth) measure_truth(batch, scores.back(), keep, values);
  }
  measure_agreement(row, scores, values);
  row.deletion = mean_curve(deletion);
  row.insertion = mean_curve(insertion);
  values.write(row);
  row.values.emplace_back("seconds per 1,000", 1000 * seconds / examples);
  row.values.emplace_back("passes", passes / examples);
}

void SiteComparison::measure_own_choice(FaithfulnessMeter& meter, const at::Tensor& keep,
                                        ExampleValues& values) const {
  const MaskEffect effect = meter.apply(keep);
  values.add("kept", effect.kept);
  values.add("D", effect.divergence);
  values.add("D <= eps", effect.divergence.le(options_.epsilon));
  if (effect.agrees.defined()) values.add("same prediction", effect.agrees);
}

void SiteComparison::measure_equal_rates(FaithfulnessMeter& meter, const at::Tensor& scores,
                                         const at::Generator& ties, ExampleValues& values) const {
  for (const double rate : options_.keep_rates) {
    const auto [keep, tied] = meter.top(scores, rate, ties);
    const MaskEffect effect = meter.apply(keep);
    const std::string at_rate = " at " + percent(rate);
    values.add("sufficiency" + at_rate, effect.sufficiency);
    values.add("comprehensiveness" + at_rate, effect.comprehensiveness);
    values.add("D" + at_rate, effect.divergence);
    values.add("D <= eps" + at_rate, effect.divergence.le(options_.epsilon));
    values.add("tied" + at_rate, tied);
  }
}

// Of the rows that have something true.
void SiteComparison::measure_truth(const Batch& batch, const at::Tensor& scores,
                                   const at::Tensor& keep, ExampleValues& values) const {
  const at::Tensor truth = options_.truth(batch).logical_and(batch.mask);
  if (!truth.any().item<bool>()) return;
  const KnownAnswer answer = known_answer(truth, scores.abs(), batch.mask);
  values.add("D_KL", answer.kls);
  values.add("D_JS", answer.jss);
  for (int64_t row = 0; row < batch.size(); ++row) {
    if (!truth[row].any().item<bool>()) continue;
    const at::Tensor inside = batch.mask[row].nonzero().squeeze(1);
    const auto chosen = bools(keep[row].index_select(0, inside));
    const at::Tensor is_true = truth[row].index_select(0, inside);
    const auto wanted = bools(is_true);
    const double precision = average_precision(scores[row].index_select(0, inside).abs(), is_true);
    for (const auto& [metric, value] :
         {std::pair{"token F1", choice_f1(chosen, wanted)},
          std::pair{"IOU", choice_iou(chosen, wanted)},
          std::pair{"IOU F1", span_iou_f1(chosen, wanted)}, std::pair{"AUPRC", precision}}) {
      values.add(metric, at::full({1}, value, at::kDouble));
    }
  }
}

// With the first seed's scores, from the second seed on.
void SiteComparison::measure_agreement(const ComparisonRow& row,
                                       const std::vector<at::Tensor>& scores,
                                       ExampleValues& values) {
  if (row.seed == options_.seed) {
    first_scores_[row.method] = scores;
    return;
  }
  const auto found = first_scores_.find(row.method);
  if (found == first_scores_.end()) return;
  for (size_t i = 0; i < scores.size(); ++i) {
    const at::Tensor& mask = meters_[i]->batch().mask;
    values.add("rank agreement", row_spearman(scores[i], found->second[i], mask));
    values.add("top-k agreement",
               top_agreement(scores[i], found->second[i], mask, options_.keep_rates.front()));
  }
}

// Of methods that can explain a model which begins at the site.
void SiteComparison::measure_sensitivity(const ComparedMethod& method, ComparisonRow& row) const {
  if (options_.sensitivity_examples == 0 || method.trained) return;
  const Batch& typical = typical_->batch();
  const at::Tensor rows = at::arange(std::min(options_.sensitivity_examples, typical.size()),
                                     typical.mask.options().dtype(at::kLong));
  const Explanation explain =
      explanation_at(model_, typical.select(rows), site_, [&](const auto& begun, const Batch& at) {
        const Explain made = method.make(begun, site_, row.seed);
        if (!made) throw Error("does not explain other states");
        return made(at);
      });
  const at::Tensor state = typical_->recording().state(site_).index_select(0, rows);
  try {
    const at::Tensor changes = uniform_perturbations(
        state, options_.perturbations, options_.radius * state.std().item<double>(),
        make_generator(derive_seed(row.seed, kPerturbations)));
    row.values.emplace_back("sensitivity-max", mean_of(sensitivity_max(explain, state, changes)));
  } catch (const std::exception&) {
    // A method that needs the model's operators, or a trained explainer: it has no such value.
  }
}

}  // namespace diffmask
