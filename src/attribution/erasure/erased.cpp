#include "attribution/erasure/erased.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "diffmask/core/error.hpp"
#include "diffmask/core/shape.hpp"
#include "diffmask/mask/masking.hpp"

namespace diffmask {

Units::Units(const Batch& batch) {
  const int64_t size = batch.size(), positions = batch.mask.size(1);
  const at::TensorOptions longs = at::TensorOptions(at::kLong).device(batch.mask.device());
  number_ = batch.groups.defined() ? batch.groups
                                   : at::arange(positions, longs).expand({size, positions});
  number_ = number_.masked_fill(batch.mask.logical_not(), -1);
  // Positions without a unit are counted in a column of their own, which is cut off.
  present_ = at::zeros({size, positions + 1}, longs.dtype(at::kBool))
                 .scatter(1, number_.masked_fill(number_.lt(0), positions), true)
                 .narrow(1, 0, positions)
                 .contiguous();
}

at::Tensor Units::spread(const at::Tensor& values, const at::Tensor& rows,
                         const at::Scalar& otherwise) const {
  const at::Tensor number = number_.index_select(0, rows);
  return values.gather(1, number.clamp_min(0)).masked_fill(number.lt(0), otherwise);
}

at::Tensor Units::sum(const at::Tensor& values, const at::Tensor& rows) const {
  const at::Tensor number = number_.index_select(0, rows);
  return at::zeros_like(values).scatter_add(1, number.clamp_min(0),
                                            values.masked_fill(number.lt(0), 0));
}

at::Tensor erased_state(const SiteMethod::Original& original, int64_t depth, const Units& units,
                        const at::Tensor& fill, const Recording& recording, const at::Tensor& rows,
                        const at::Tensor& keep) {
  const at::Tensor& h = recording.state(original.site(depth));
  const at::Tensor z = units.spread(keep, rows, true).to(h.scalar_type());
  return masked(h, original.positions(depth).expand(z, h), fill.index_select(0, rows));
}

at::Tensor erased(const SiteMethod::Original& original, int64_t depth, const Units& units,
                  const at::Tensor& fill, const at::Tensor& rows, const at::Tensor& keep,
                  const Reduce& reduce) {
  const std::string& site = original.site(depth);
  std::vector<at::Tensor> reduced;
  original.passes.each({site}, rows, [&](const Passes::Chunk& chunk) {
    const auto cut = [&](const at::Tensor& all) { return all.slice(0, chunk.begin, chunk.end); };
    const at::Tensor state =
        erased_state(original, depth, units, fill, chunk.recording, cut(rows), cut(keep));
    const at::Tensor output = original.model.resume(chunk.recording, site, state);
    reduced.push_back(reduce(output, chunk.recording.output()));
  });
  return at::cat(reduced);
}

int64_t size_of(const UnitSet& set) { return std::count(set.begin(), set.end(), true); }

Judge::Judge(const SiteMethod::Original& original_, int64_t depth_, const Criterion& criterion)
    : original(original_),
      depth(depth_),
      fill(original_.fill(depth_)),
      criterion_(criterion),
      units_(original_.batch) {
  const at::Tensor present = units_.present().cpu();
  const auto used = present.accessor<bool, 2>();
  for (int64_t b = 0; b < present.size(0); ++b) {
    numbers_.emplace_back();
    for (int64_t u = 0; u < present.size(1); ++u) {
      if (used[b][u]) numbers_.back().push_back(u);
    }
  }
  passes_.assign(numbers_.size(), 0);
}

UnitSet Judge::all(int64_t example) const {
  UnitSet set = none();
  for (const int64_t unit : numbers_[static_cast<size_t>(example)]) set[unit] = true;
  return set;
}

void Judge::operator()(std::vector<Candidate>& candidates) {
  if (candidates.empty()) return;
  const auto count = static_cast<int64_t>(candidates.size());
  at::Tensor rows = at::empty({count}, at::kLong),
             keep = at::empty({count, positions()}, at::kBool);
  auto to_rows = rows.accessor<int64_t, 1>();
  auto to_keep = keep.accessor<bool, 2>();
  for (int64_t i = 0; i < count; ++i) {
    const Candidate& candidate = candidates[static_cast<size_t>(i)];
    to_rows[i] = candidate.example;
    for (int64_t u = 0; u < positions(); ++u) to_keep[i][u] = candidate.keep[u];
  }
  const c10::Device device = fill.device();
  const at::Tensor judged =
      erased(original, depth, units_, fill, rows.to(device), keep.to(device),
             [&](const at::Tensor& output, const at::Tensor& recorded) {
               const at::Tensor value = target::value(original.options.target, output, recorded);
               const at::Tensor holds = criterion_(output, recorded);
               check_shape("criterion(output, original)", holds, {output.size(0)});
               check_dtype("criterion(output, original)", holds, at::kBool);
               return at::stack({holds.to(at::kDouble), value.to(at::kDouble)}, 1);
             })
          .cpu();
  const auto from = judged.accessor<double, 2>();
  for (int64_t i = 0; i < count; ++i) {
    Candidate& candidate = candidates[static_cast<size_t>(i)];
    candidate.holds = from[i][0] != 0;
    candidate.value = from[i][1];
    ++passes_[static_cast<size_t>(candidate.example)];
  }
}

at::Tensor Judge::positions_of(const std::vector<UnitSet>& keep) const {
  std::vector<at::Tensor> rows;
  for (int64_t b = 0; b < examples(); ++b) {
    rows.push_back(positions_of(Candidate{b, keep[static_cast<size_t>(b)]}));
  }
  return at::stack(rows);
}

at::Tensor Judge::positions_of(const Candidate& candidate) const {
  at::Tensor values = at::empty({1, positions()}, at::kBool);
  for (int64_t u = 0; u < positions(); ++u) values.data_ptr<bool>()[u] = candidate.keep[u];
  const at::Tensor row = at::full({1}, candidate.example, original.examples().options());
  return units_.spread(values.to(fill.device()), row, true)[0];
}

at::Tensor Judge::spread(const std::vector<std::vector<double>>& scores) const {
  at::Tensor values = at::empty({examples(), positions()}, at::kDouble);
  auto to = values.accessor<double, 2>();
  for (int64_t b = 0; b < examples(); ++b) {
    for (int64_t u = 0; u < positions(); ++u) to[b][u] = scores[static_cast<size_t>(b)][u];
  }
  return units_.spread(values.to(fill.options()), original.examples(), 0);
}

}  // namespace diffmask
