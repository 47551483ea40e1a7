#include "diffmask/attribution/data_scores.hpp"

namespace diffmask {

std::vector<at::Tensor> data_scores(const Attributor& method, const Dataset& data,
                                    int64_t batch_size) {
  std::vector<at::Tensor> scores(static_cast<size_t>(data.size()));
  for (const auto& examples : length_batches(data, batch_size)) {
    const Attribution attribution = method.attribute(data.batch(examples));
    for (size_t row = 0; row < examples.size(); ++row) {
      const int64_t example = examples[row];
      scores[static_cast<size_t>(example)] = attribution.scores.select(0, static_cast<int64_t>(row))
                                                 .narrow(0, 0, data.length(example));
    }
  }
  return scores;
}

}  // namespace diffmask
