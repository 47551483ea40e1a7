#pragma once
/// \file
/// What the tests of the trainer have in common: its runs on a task that takes milliseconds.

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

#include "diffmask/train/trainer.hpp"
#include "tests/training_task.hpp"

namespace diffmask {

class TrainerTest : public testing::Test {
 protected:
  Summary run(Explainer& explainer, TrainerOptions options,
              const std::vector<Callback>& callbacks = {}) const {
    options.callbacks = callbacks;
    return train(*task_.model, explainer, *task_.training, *task_.validation, options);
  }

  std::vector<DepthEvaluation> evaluated(const Explainer& explainer,
                                         const TrainerOptions& options) const {
    RecordedBatches data(*task_.model, *task_.validation, explainer.sites(), options.batches);
    return evaluate(*task_.model, explainer, data, options.divergence, options.epsilon);
  }

  // What the explainer's parameters are after training.
  std::map<std::string, at::Tensor> trained(const TrainerOptions& options,
                                            ExplainerOptions explainer = {}) const {
    const auto fresh = make_explainer(task_, explainer);
    run(*fresh, options);
    return parameters_of(*fresh);
  }

  TrainingTask task_ = training_task();
};

inline void expect_same(const DepthEvaluation& a, const DepthEvaluation& b) {
  EXPECT_EQ(a.divergence, b.divergence);
  EXPECT_EQ(a.hard_divergence, b.hard_divergence);
  EXPECT_EQ(a.keep, b.keep);
  EXPECT_EQ(a.hard_keep, b.hard_keep);
  EXPECT_EQ(a.within, b.within);
}

}  // namespace diffmask
