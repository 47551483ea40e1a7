#include "diffmask/attribution/passes.hpp"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <new>
#include <optional>
#include <string_view>
#include <utility>

#include "attribution/memory_meter.hpp"
#include "diffmask/core/error.hpp"
#include "diffmask/core/shape.hpp"

namespace diffmask {
namespace {

double now() {
  using Clock = std::chrono::steady_clock;
  return std::chrono::duration<double>(Clock::now().time_since_epoch()).count();
}

// LibTorch has no type of its own for the CPU's allocator's error.
bool out_of_memory(const std::exception& error) {
  const std::string_view text = error.what();
  const auto says = [&](std::string_view words) { return text.find(words) != text.npos; };
  return dynamic_cast<const std::bad_alloc*>(&error) || says("out of memory") ||
         says("can't allocate memory") || says("not enough memory");
}

}  // namespace

bool same_output(const at::Tensor& found, const at::Tensor& expected) {
  constexpr double kRounding = 1e-3;
  if (found.sizes() != expected.sizes()) return false;
  const at::Tensor a = found.to(at::kDouble), b = expected.to(at::kDouble);
  const at::Tensor scale = b.masked_fill(at::isfinite(b).logical_not(), 0).abs();
  const at::Tensor change = (a - b).masked_fill(a.eq(b), 0).abs();
  return change.max().item<double>() <= kRounding * scale.max().item<double>();
}

void PassOptions::validate() const {
  require(max_batch >= 1, "max_batch", ">= 1", max_batch);
  require(memory >= 0, "memory", ">= 0 bytes", memory);
}

Chunks::Chunks(PassOptions options) : options_(std::move(options)), began_(now()) {
  options_.validate();
}

double Chunks::seconds() const { return now() - began_; }

// As many rows as fit, where one takes `bytes`.
int64_t Chunks::fitting(int64_t bytes, int64_t multiple) const {
  int64_t most = options_.max_batch;
  if (options_.memory > 0 && bytes > 0) {
    require(bytes <= options_.memory, "memory",
            fmt::format("at least the {} bytes that a pass of one row takes", bytes),
            options_.memory);
    most = std::min(most, options_.memory / bytes);
  }
  return most > multiple ? most - most % multiple : most;
}

void Chunks::report() const {
  if (!options_.progress) return;
  Progress progress;
  progress.step = count_;
  progress.steps = std::max(count_, planned_);
  progress.seconds = seconds();
  if (options_.progress(progress) == Action::stop) {
    throw Cancelled(fmt::format("cancelled after {} of {} rows", count_, progress.steps));
  }
}

void Chunks::each(int64_t total, int64_t multiple,
                  const std::function<void(int64_t begin, int64_t end)>& run) {
  planned_ = std::max(planned_, count_ + total);
  require(options_.memory == 0 || MemoryMeter::available(), "memory",
          "0 while LibTorch's profiler runs, which measures memory in the same way",
          options_.memory);
  bool measure = options_.memory > 0;
  int64_t most = measure ? 1 : fitting(0, multiple);
  for (int64_t begin = 0; begin < total;) {
    const int64_t size = std::min(most, total - begin);
    try {
      std::optional<MemoryMeter> meter;
      if (measure) meter.emplace();
      run(begin, begin + size);
      if (measure) most = fitting(meter->peak(), multiple);
      measure = false;
    } catch (const std::exception& error) {
      if (size == 1 || !out_of_memory(error)) throw;
      most = size / 2;
      continue;
    }
    begin += size;
    count_ += size;
    report();
  }
}

Passes::Passes(const FrozenModel& model, const Recording& recording, PassOptions options,
               std::vector<int64_t> axes)
    : model_(model), recording_(recording), chunks_(std::move(options)), axes_(std::move(axes)) {}

// Tried out, once for the sites of a pass, on the examples in another order and one of them twice: a
// model may be of one size of batch alone.
bool Passes::chooses_inputs(const std::vector<std::string>& sites) {
  if (checked_sites_ == sites) return chooses_inputs_;
  const at::NoGradGuard no_grad;
  const at::Tensor& output = recording_.output();
  const at::Tensor examples =
      at::arange(output.size(0), at::TensorOptions(at::kLong).device(output.device()));
  try {
    const at::Tensor order = at::cat({examples.roll(1), examples.narrow(0, 0, 1)});
    const Recording other = model_.select_rows(recording_, order, sites, axes_);
    std::vector<Replacement> states;
    for (const std::string& site : sites) states.push_back({site, other.state(site)});
    chooses_inputs_ = same_output(model_.resume(other, std::move(states)), other.output());
  } catch (const std::exception& error) {
    if (out_of_memory(error)) throw;
    chooses_inputs_ = false;
  }
  checked_sites_ = sites;
  return chooses_inputs_;
}

const Recording& Passes::recording_of(const std::vector<std::string>& sites, const at::Tensor& rows,
                                      bool always_select) {
  const int64_t size = recording_.output().size(0);
  if (!always_select && rows.equal(at::arange(size, rows.options()))) return recording_;
  if (!selected_rows_.defined() || !selected_rows_.equal(rows) || selected_sites_ != sites) {
    selected_ = {};  // never two at once
    selected_ = chooses_inputs(sites) ? model_.select_rows(recording_, rows, sites, axes_)
                                      : model_.rows_of_whole(recording_, rows, sites);
    selected_rows_ = rows;
    selected_sites_ = sites;
  }
  return selected_;
}

void Passes::each(const std::vector<std::string>& sites, const at::Tensor& rows,
                  const std::function<void(const Chunk&)>& work) {
  check_shape("rows", rows, {-1});
  // Where memory is measured, so is what selecting the first row takes.
  bool measured = options().memory > 0;
  if (measured) {
    chooses_inputs(sites);  // not to be measured with the row
    selected_ = {};
    selected_rows_ = at::Tensor();
  }
  // Chunks of whole batches have the same examples and share a recording.
  chunks_.each(rows.size(0), recording_.output().size(0), [&](int64_t begin, int64_t end) {
    work({recording_of(sites, rows.narrow(0, begin, end - begin), measured), begin, end});
    measured = false;
  });
}

}  // namespace diffmask
