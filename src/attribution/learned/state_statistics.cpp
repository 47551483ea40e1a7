#include "diffmask/attribution/learned/state_statistics.hpp"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "diffmask/core/error.hpp"

namespace diffmask {
namespace {

// Merges batch after batch (Chan et al. 1983): a channel that never varies has a deviation of
// exactly 0, which sums of squares would not give.
struct Moments {
  double count = 0;
  at::Tensor mean, squares;  // squares: summed squared differences from the mean

  // Shape: rows (N, C) double.
  void add(const at::Tensor& rows) {
    const auto more = static_cast<double>(rows.size(0));
    const at::Tensor here = rows.mean(0), here_squares = (rows - here).square().sum(0);
    if (count == 0) {
      mean = here;
      squares = here_squares;
    } else {
      const at::Tensor apart = here - mean;
      squares = squares + here_squares + apart.square() * (count * more / (count + more));
      mean = mean + apart * (more / (count + more));
    }
    count += more;
  }
};

}  // namespace

std::map<std::string, StateStatistics> state_statistics(const FrozenModel& model,
                                                        const AttributionOptions& given,
                                                        const Dataset& data, int64_t batch_size) {
  require(data.size() >= 1, "data", "of at least one example", data.size());
  require(batch_size >= 1, "batch_size", ">= 1", batch_size);
  const AttributionOptions options = given.resolved(&model);
  at::NoGradGuard no_grad;
  std::map<std::string, Moments> moments;
  std::map<std::string, StateStatistics> result;
  for (const auto& examples : length_batches(data, batch_size)) {
    const Batch batch = data.batch(examples).to(model.device());
    batch.validate();
    const Recording recording = model.record(batch.inputs, options.sites);
    for (size_t depth = 0; depth < options.sites.size(); ++depth) {
      const std::string& site = options.sites[depth];
      const at::Tensor& state = recording.state(site);
      options.check_state(depth, state, batch);
      const Positions& positions = options.positions_of(depth);
      moments[site].add(positions.channel_values(state, batch.mask).to(at::kDouble));
      const Moments& now = moments[site];
      const at::Tensor deviation = (now.squares / now.count).sqrt();
      result[site] = {now.mean.to(state.scalar_type()), deviation.to(state.scalar_type())};
    }
  }
  return result;
}

Fill mean_fill(const FrozenModel& model, const AttributionOptions& given, const Dataset& data) {
  const AttributionOptions options = given.resolved(&model);
  const auto statistics = state_statistics(model, options, data);
  std::map<std::string, at::Tensor> means;
  for (size_t depth = 0; depth < options.sites.size(); ++depth) {
    const std::string& site = options.sites[depth];
    means[site] = options.positions_of(depth).expand_vector(statistics.at(site).mean);
  }
  return fill::given(means);
}

}  // namespace diffmask
