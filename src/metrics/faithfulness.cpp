#include "diffmask/metrics/faithfulness.hpp"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <functional>

#include "attribution/erasure/erased.hpp"
#include "diffmask/core/error.hpp"
#include "diffmask/core/shape.hpp"
#include "diffmask/mask/arranged.hpp"
#include "diffmask/mask/masking.hpp"
#include "diffmask/metrics/keep_top.hpp"

namespace diffmask {
namespace {

// The area under p by k / n, whose points may lie anywhere. Shape: k, p (B, S); n (B).
at::Tensor area(const at::Tensor& k, const at::Tensor& p, const at::Tensor& n) {
  const at::Tensor x = k.to(at::kDouble) / n.unsqueeze(1);
  const int64_t last = x.size(1) - 1;
  return ((x.narrow(1, 1, last) - x.narrow(1, 0, last)) *
          (p.narrow(1, 1, last) + p.narrow(1, 0, last)) / 2)
      .sum(1);
}

// E[(I.s - dy)^2]. Shape: products, drops (N, B).
at::Tensor infidelity_of(const at::Tensor& products, const at::Tensor& drops, bool scaled) {
  if (!scaled) return (products - drops).square().mean(0);
  const at::Tensor squares = products.square().mean(0);
  const at::Tensor scale =
      at::where(squares.gt(0), (products * drops).mean(0) / squares, at::zeros_like(squares));
  return (scale * products - drops).square().mean(0);
}

// Examples are not chosen from the inputs of a model whose states are arranged.
std::vector<int64_t> axes_of(const Batch& batch, const Positions& positions) {
  if (positions.batch_first()) return batch.axes;
  return std::vector<int64_t>(batch.inputs.size(), Batch::kWhole);
}

// A model that its user keeps alive.
std::shared_ptr<const FrozenModel> borrowed(const FrozenModel& model) {
  return {std::shared_ptr<const void>(), &model};
}

}  // namespace

void FaithfulnessOptions::validate() const {
  positions.validate();
  require(!bins.empty(), "bins", "at least one share", "none");
  for (const double share : bins) require(share > 0 && share <= 1, "bins", "in (0, 1]", share);
  require(steps >= 1, "steps", ">= 1", steps);
  require(fill != nullptr, "fill", "a function", "none");
  require(log_probability != nullptr, "log_probability", "a function", "none");
  require(target != nullptr, "target", "a function", "none");
  require(divergence != nullptr, "divergence", "a function", "none");
  passes.validate();
}

struct FaithfulnessMeter::State {
  State(const FrozenModel& model_, const Batch& given, FaithfulnessOptions options_)
      : options(std::move(options_)),
        held(arranged(borrowed(model_), {options.site}, {options.positions})),
        model(*held),
        common{.sites = {options.site},
               .positions = {options.positions.arranged()},
               .target = options.target},
        batch(given.to(model.device())),
        recording(model.record(batch.inputs, {options.site})),
        passes(model, recording, options.passes, axes_of(batch, options.positions)),
        units(batch),
        count(units.present().sum(1)),
        original{model, common, batch, recording, at::Tensor(), passes} {
    common.check_state(0, state(), batch);
    check_layout(model, recording, batch, options.site, common.positions[0]);
    fill = fill::value(options.fill, options.site, state());
    log_p = log_probability(recording.output(), recording.output());
    p = log_p.exp();
  }

  const at::Tensor& state() const { return recording.state(options.site); }

  at::Tensor log_probability(const at::Tensor& output, const at::Tensor& from) const {
    return target::value(options.log_probability, output.to(at::kDouble), from.to(at::kDouble));
  }

  at::Tensor y(const at::Tensor& output, const at::Tensor& from) const {
    return target::value(options.target, output, from).to(at::kDouble);
  }

  // Shape: values (B, P) of positions -> of units, the mean of each.
  at::Tensor by_unit(const at::Tensor& values) const {
    check_shape("scores", values, batch.mask.sizes());
    const at::Tensor v = values.to(batch.mask.device(), at::kDouble), rows = original.examples();
    check_finite("scores", v);
    return units.sum(v, rows) / units.sum(at::ones_like(v), rows).clamp_min(1);
  }

  at::Tensor chosen_units(const at::Tensor& keep) const {
    check_dtype("keep", keep, at::kBool);
    return by_unit(keep).gt(0).logical_and(units.present());
  }

  at::Tensor run(const at::Tensor& rows, const at::Tensor& keep, const Reduce& reduce) {
    return erased(original, 0, units, fill, rows, keep, reduce);
  }

  // y(h) - y(h'), h' given for each chunk. Shape: rows (N) -> (N).
  at::Tensor drops(const at::Tensor& rows,
                   const std::function<at::Tensor(const Passes::Chunk&)>& changed) {
    std::vector<at::Tensor> parts;
    passes.each({options.site}, rows, [&](const Passes::Chunk& chunk) {
      const at::Tensor& from = chunk.recording.output();
      parts.push_back(y(from, from) -
                      y(model.resume(chunk.recording, options.site, changed(chunk)), from));
    });
    return at::cat(parts);
  }

  const FaithfulnessOptions options;
  const std::shared_ptr<const FrozenModel> held;
  const FrozenModel& model;  // its states have the examples first
  const AttributionOptions common;
  const Batch batch;
  const Recording recording;
  Passes passes;
  const Units units;
  const at::Tensor count;  // (B): units
  const SiteMethod::Original original;
  at::Tensor fill, log_p, p;
};

FaithfulnessMeter::FaithfulnessMeter(const FrozenModel& model, const Batch& batch,
                                     FaithfulnessOptions options) {
  options.validate();
  batch.validate();
  at::NoGradGuard no_grad;
  state_ = std::make_unique<State>(model, batch, std::move(options));
}

FaithfulnessMeter::~FaithfulnessMeter() = default;

const Recording& FaithfulnessMeter::recording() const { return state_->recording; }
const Batch& FaithfulnessMeter::batch() const { return state_->batch; }

int64_t FaithfulnessMeter::passes() const { return state_->batch.size() + state_->passes.count(); }

Faithfulness FaithfulnessMeter::measure(const at::Tensor& scores, at::Generator generator) {
  at::NoGradGuard no_grad;
  State& s = *state_;
  const at::Tensor ranks = score_ranks(s.by_unit(scores), s.units.present(), generator);

  // How many units are taken (B, points), of each bin and then of each point of the curves.
  std::vector<at::Tensor> counts;
  for (const double share : s.options.bins) counts.push_back(top_counts(s.units.present(), share));
  const auto bins = static_cast<int64_t>(counts.size()), points = s.options.steps + 1;
  for (int64_t i = 0; i < points; ++i) {
    counts.push_back(top_counts(s.units.present(),
                                static_cast<double>(i) / static_cast<double>(s.options.steps)));
  }
  const at::Tensor k = at::stack(counts, 1);

  // A row is an order, a count and an example, and runs once, however many points need it; sorted,
  // rows of one order and count are together and share a recording.
  const int64_t size = s.batch.size(), most = ranks.size(1) + 1;
  const at::Tensor example = s.original.examples();
  const at::Tensor taken = k * size + example.unsqueeze(1);
  const at::Tensor keys = at::stack({taken, taken + most * size});
  const auto [unique, inverse] = at::_unique(keys, /*sorted=*/true, /*return_inverse=*/true);
  const at::Tensor rows = unique.remainder(size);
  const at::Tensor order_and_count = at::floor_divide(unique, size);
  const at::Tensor inserts = order_and_count.ge(most).unsqueeze(1);
  const at::Tensor is_top =
      ranks.index_select(0, rows).lt(order_and_count.remainder(most).unsqueeze(1));
  const at::Tensor log_p =
      s.run(rows, is_top.eq(inserts), [&](const at::Tensor& output, const at::Tensor& from) {
         return s.log_probability(output, from);
       }).index({inverse});

  const at::Tensor without = log_p[0], alone = log_p[1];  // (B, points)
  const at::Tensor p = s.p.unsqueeze(1);
  const auto in_bins = [&](const at::Tensor& x) { return x.narrow(1, 0, bins); };
  const auto in_curve = [&](const at::Tensor& x) { return x.narrow(1, bins, points); };
  Faithfulness result;
  result.comprehensiveness = (p - in_bins(without).exp()).mean(1);
  result.sufficiency = (p - in_bins(alone).exp()).mean(1);
  result.log_odds = (in_bins(without) - s.log_p.unsqueeze(1)).mean(1);
  result.deletion = in_curve(without).exp();
  result.insertion = in_curve(alone).exp();
  result.deletion_auc = area(in_curve(k), result.deletion, s.count);
  result.insertion_auc = area(in_curve(k), result.insertion, s.count);
  return result;
}

MaskEffect FaithfulnessMeter::apply(const at::Tensor& keep) {
  at::NoGradGuard no_grad;
  State& s = *state_;
  const at::Tensor units = s.chosen_units(keep), rows = s.original.examples();
  const at::Tensor outcome =
      s.run(rows, units, [&](const at::Tensor& output, const at::Tensor& from) {
        return at::stack(
            {s.options.divergence(from, output).to(at::kDouble),
             s.log_probability(output, from).exp(),
             s.options.criterion ? s.options.criterion(output, from).to(at::kDouble)
                                 : at::zeros({output.size(0)}, at::kDouble).to(output.device())},
            1);
      });
  const at::Tensor without =
      s.run(rows, units.logical_not(), [&](const at::Tensor& output, const at::Tensor& from) {
        return s.log_probability(output, from).exp();
      });
  return {units.sum(1).to(at::kDouble) / s.count, outcome.select(1, 0), s.p - outcome.select(1, 1),
          s.p - without, s.options.criterion ? outcome.select(1, 2).gt(0) : at::Tensor()};
}

std::pair<at::Tensor, at::Tensor> FaithfulnessMeter::top(const at::Tensor& scores, double share,
                                                         at::Generator generator) const {
  at::NoGradGuard no_grad;
  const State& s = *state_;
  const KeepTop top = keep_top(s.by_unit(scores), s.units.present(), share, generator);
  return {s.units.spread(top.keep, s.original.examples(), false), top.tied};
}

at::Tensor FaithfulnessMeter::infidelity(const at::Tensor& features,
                                         const at::Tensor& perturbations, bool scaled) {
  at::NoGradGuard no_grad;
  State& s = *state_;
  const at::Tensor& h = s.state();
  check_shape("features", features, h.sizes());
  std::vector<int64_t> shape = h.sizes().vec();
  shape.insert(shape.begin(), -1);
  check_shape("perturbations", perturbations, shape);
  check_finite("features", features);
  check_finite("perturbations", perturbations);
  const int64_t count = perturbations.size(0), size = h.size(0);
  const at::Tensor products =
      (perturbations * features).to(at::kDouble).reshape({count, size, -1}).sum(2);
  const at::Tensor changes = perturbations.flatten(0, 1).to(h.options());
  const at::Tensor drops =
      s.drops(s.original.examples().repeat({count}), [&](const Passes::Chunk& chunk) {
        return chunk.recording.state(s.options.site) - changes.slice(0, chunk.begin, chunk.end);
      });
  return infidelity_of(products, drops.view({count, size}), scaled);
}

at::Tensor FaithfulnessMeter::subset_infidelity(const at::Tensor& scores, const at::Tensor& keep,
                                                bool scaled) {
  at::NoGradGuard no_grad;
  State& s = *state_;
  const int64_t size = s.batch.size(), positions = s.batch.mask.size(1);
  check_shape("keep", keep, {-1, size, positions});
  const int64_t count = keep.size(0);
  std::vector<at::Tensor> sets;
  for (const at::Tensor& set : keep.unbind(0)) sets.push_back(s.chosen_units(set));
  const at::Tensor units = at::stack(sets);
  const at::Tensor products =
      (s.by_unit(scores) * units.logical_not().logical_and(s.units.present())).sum(2);
  const at::Tensor drops = s.run(s.original.examples().repeat({count}), units.flatten(0, 1),
                                 [&](const at::Tensor& output, const at::Tensor& from) {
                                   return s.y(from, from) - s.y(output, from);
                                 });
  return infidelity_of(products, drops.view({count, size}), scaled);
}

at::Tensor FaithfulnessMeter::random_subsets(int64_t count, at::Generator generator) const {
  require(count >= 1, "count", ">= 1", count);
  require(generator.defined(), "generator", "given", "none");
  const State& s = *state_;
  std::vector<at::Tensor> sets;
  for (int64_t i = 0; i < count; ++i) {
    const at::Tensor drawn =
        at::rand(s.batch.mask.sizes(), generator).lt(0.5).to(s.batch.mask.device());
    sets.push_back(s.units.spread(drawn, s.original.examples(), false));
  }
  return at::stack(sets);
}

}  // namespace diffmask
