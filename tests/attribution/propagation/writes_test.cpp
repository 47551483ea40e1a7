// Operators that write into a part of a tensor are these operators, and a move of what they give:
// DeepLIFT and LRP give what they give where the parts are joined anew.
#include <gtest/gtest.h>

#include <functional>

#include "diffmask/attribution/propagation/deeplift.hpp"
#include "diffmask/attribution/propagation/lrp.hpp"
#include "tests/attribution/rule_models.hpp"

namespace diffmask {
namespace {

using Function = std::function<at::Tensor(const at::Tensor&)>;

at::Tensor weights() { return random_tensor({3}, 11); }

// Of x (2, 3, 4).
struct Written {
  const char* name;
  Function in_place, joined;
};

const Written kWritten[] = {
    {"sum",
     [](const at::Tensor& x) {
       const at::Tensor y = x.clone();
       y.narrow(1, 0, 2).add_(x.narrow(1, 1, 2), 0.5);
       return y;
     },
     [](const at::Tensor& x) {
       return at::cat({x.narrow(1, 0, 2) + 0.5 * x.narrow(1, 1, 2), x.narrow(1, 2, 1)}, 1);
     }},
    {"product with weights",
     [](const at::Tensor& x) {
       const at::Tensor y = x.clone();
       y.select(2, 0).mul_(weights());
       return y;
     },
     [](const at::Tensor& x) {
       return at::cat({x.narrow(2, 0, 1) * weights().view({3, 1}), x.narrow(2, 1, 3)}, 2);
     }},
    {"product of two parts",
     [](const at::Tensor& x) {
       const at::Tensor y = x.clone();
       y.narrow(2, 0, 2).mul_(y.narrow(2, 2, 2));
       return y;
     },
     [](const at::Tensor& x) {
       const at::Tensor right = x.narrow(2, 2, 2);
       return at::cat({x.narrow(2, 0, 2) * right, right}, 2);
     }},
    {"activation of a view of a view",
     [](const at::Tensor& x) {
       const at::Tensor y = x.clone();
       y.transpose(1, 2).select(1, 3).tanh_();
       return y;
     },
     [](const at::Tensor& x) {
       return at::cat({x.narrow(2, 0, 3), at::tanh(x.narrow(2, 3, 1))}, 2);
     }},
    {"one after the other",
     [](const at::Tensor& x) {
       const at::Tensor y = at::zeros_like(x), view = y.view({-1, 4});
       y.narrow(1, 1, 2).copy_(x.narrow(1, 0, 2));
       view.select(1, 0).sub_(x.select(2, 1).reshape({-1}));
       y.narrow(2, 0, 1).relu_();
       return y;
     },
     [](const at::Tensor& x) {
       const at::Tensor y = at::constant_pad_nd(x.narrow(1, 0, 2), {0, 0, 1, 0});
       return at::cat({at::relu(y.narrow(2, 0, 1) - x.narrow(2, 1, 1)), y.narrow(2, 1, 3)}, 2);
     }},
};

TEST(WritesTest, IntoViewsHaveTheOperatorsRules) {
  const AttributionOptions one_number{.target = target::scalar};
  const Batch batch = numbered_batch(random_tensor({2, 3, 4}, 6));
  for (const Written& written : kWritten) {
    SCOPED_TRACE(written.name);
    const auto model = [](const Function& f) {
      return model_of([f](const at::Tensor& x) {
        return at::linear(f(x).flatten(1), random_tensor({2, 12}, 3)).tanh().sum(1);
      });
    };
    const auto in_place = model(written.in_place), joined = model(written.joined);
    const Attribution difference = DeepLift(in_place, one_number).attribute(batch);
    EXPECT_LE(difference.gap.abs().max().item<double>(), 1e-9);
    EXPECT_LE(relative_error(difference.features[0],
                             DeepLift(joined, one_number).attribute(batch).features[0]),
              1e-9);
    const LrpOptions lrp{.epsilon = 1e-12};
    EXPECT_LE(relative_error(Lrp(in_place, one_number, lrp).attribute(batch).features[0],
                             Lrp(joined, one_number, lrp).attribute(batch).features[0]),
              1e-9);
  }
}

}  // namespace
}  // namespace diffmask
