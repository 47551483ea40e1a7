#include "diffmask/attribution/propagation/deeplift.hpp"

#include <gtest/gtest.h>

#include "diffmask/core/libtorch.hpp"
#include "diffmask/program/exported.hpp"
#include "diffmask/program/script.hpp"
#include "tests/attribution/rule_models.hpp"
#include "tests/bad_input.hpp"

// A namespace of its own: test sources share a unit of the compiler.
namespace diffmask::deeplift_test {
namespace {

constexpr int64_t kPositions = 3, kFeatures = 4;

Batch example() { return numbered_batch(random_tensor({2, kPositions, kFeatures}, 1)); }

// To a reference that is neither zero nor the same for all positions.
AttributionOptions to_one_number() {
  return {.target = target::scalar,
          .fill = fill::given({{"x", random_tensor({kPositions, kFeatures}, 2)}})};
}

at::Tensor layer(const at::Tensor& x, uint64_t seed) {
  return at::linear(x, random_tensor({kFeatures, kFeatures}, seed),
                    random_tensor({kFeatures}, seed + 100));
}

at::Tensor weighted_sum(const at::Tensor& x) {
  const at::Tensor flat = x.flatten(1);
  return flat.mv(random_tensor({flat.size(1)}, 9));
}

struct Net {
  std::string name;
  std::function<at::Tensor(const at::Tensor&)> f;
  double tolerance = 1e-9;  // but for rounding the rules are exact
};

std::vector<Net> nets() {
  return {
      {"piecewise linear", [](const at::Tensor& x) { return layer(at::relu(layer(x, 3)), 4); }},
      {"one activation twice, in place",
       [](const at::Tensor& x) {
         torch::nn::ReLU relu(torch::nn::ReLUOptions(/*inplace=*/true));
         return relu(layer(relu(layer(x, 3)), 4));
       }},
      {"smooth", [](const at::Tensor& x) { return at::gelu(layer(at::tanh(layer(x, 3)), 4)); }},
      {"a sum beside it", [](const at::Tensor& x) { return x + at::sigmoid(layer(x, 3)); }},
      {"a product", [](const at::Tensor& x) { return layer(x, 3) * at::tanh(layer(x, 4)); }},
      {"a square", [](const at::Tensor& x) { return x * x; }},
      {"a quotient", [](const at::Tensor& x) { return layer(x, 3) / (1 + x.exp()); }},
      {"a constant's quotient", [](const at::Tensor& x) { return 1 / (1 + x.exp()); }},
      {"a matrix product",
       [](const at::Tensor& x) { return at::matmul(layer(x, 3), layer(x, 4).transpose(1, 2)); }},
      {"an einsum with weights",
       [](const at::Tensor& x) {
         return at::einsum("btf,fg->btg", {x, random_tensor({kFeatures, 2}, 3)}).tanh();
       }},
      {"an einsum of three",
       [](const at::Tensor& x) {
         return at::einsum("btf,bsf,btg->bsg", {layer(x, 3), layer(x, 4), x});
       }},
      {"softmax", [](const at::Tensor& x) { return at::softmax(3 * layer(x, 3), 2); }},
      {"log softmax", [](const at::Tensor& x) { return at::log_softmax(3 * layer(x, 3), 1); }},
      {"masked softmax",
       [](const at::Tensor& x) {
         const at::Tensor first = at::arange(kFeatures).eq(0);
         return at::softmax(x.masked_fill(first, -INFINITY), 2);
       }},
      {"layer norm",
       [](const at::Tensor& x) {
         return at::layer_norm(x, {kFeatures}, random_tensor({kFeatures}, 3),
                               random_tensor({kFeatures}, 4));
       }},
      {"max pooling", [](const at::Tensor& x) { return at::max_pool1d(x, 2, 1); }},
      {"the largest of two", [](const at::Tensor& x) { return at::maximum(x, layer(x, 3)); }},
      {"the smallest", [](const at::Tensor& x) { return x.amin({1}); }},
      {"a list",
       [](const at::Tensor& x) {
         const auto parts = x.chunk(2, 2);
         return at::cat({parts[0] * parts[1], at::tanh(parts[0])}, 2);
       }},
      // The mean gradient of an operator that has no rule: complete but for the quadrature.
      {"another operator", [](const at::Tensor& x) { return at::cumprod(at::sigmoid(x), 1); },
       1e-6},
  };
}

Attribution explain(const std::function<at::Tensor(const at::Tensor&)>& f,
                    AttributionOptions options, DeepLiftOptions deeplift = {}) {
  return DeepLift(model_of(f), std::move(options), std::move(deeplift)).attribute(example());
}

TEST(DeepLiftTest, ScoresAddUpToTheTargetsDifference) {
  using Activation = DeepLiftOptions::Activation;
  const AttributionOptions options = to_one_number();
  const at::Tensor x = example().inputs[0];
  const at::Tensor reference = options.fill("x", x).expand_as(x);
  for (const Net& net : nets()) {
    for (const Activation activation : {Activation::rescale, Activation::reveal_cancel}) {
      SCOPED_TRACE(net.name);
      const auto f = [&](const at::Tensor& state) { return weighted_sum(net.f(state)); };
      const Attribution result = explain(f, options, {activation});
      const at::Tensor difference = f(x) - f(reference);
      const at::Tensor error = (result.scores.sum({1, 2}) - difference).abs();
      EXPECT_LE((error / difference.abs()).max().item<double>(), net.tolerance);
      EXPECT_TRUE(result.gap.select(1, 0).abs().allclose(error, 1e-5, 1e-9));
    }
  }
}

TEST(DeepLiftTest, FusedAttentionIsItsParts) {
  const auto heads = [](const at::Tensor& x, uint64_t seed) { return layer(x, seed).unsqueeze(1); };
  const auto apart = [&](const at::Tensor& x) {
    const at::Tensor scores = at::matmul(heads(x, 3), heads(x, 4).transpose(2, 3)) / 2;
    return weighted_sum(at::matmul(at::softmax(scores, 3), heads(x, 5)));
  };
  const AttributionOptions options = to_one_number();
  const Attribution parts = explain(apart, options);
  EXPECT_LE(parts.gap.abs().max().item<double>(), 1e-9);
#if DIFFMASK_TORCH_AT_LEAST(2, 0)
  const auto fused = [&](const at::Tensor& x) {
    return weighted_sum(at::scaled_dot_product_attention(heads(x, 3), heads(x, 4), heads(x, 5)));
  };
  EXPECT_LE(relative_error(explain(fused, options).features[0], parts.features[0]), 1e-9);
#endif
}

TEST(DeepLiftTest, OfALinearModelItIsWeightTimesDifference) {
  const AttributionOptions options = to_one_number();
  const at::Tensor w = random_tensor({kPositions * kFeatures}, 5), x = example().inputs[0];
  const Attribution result =
      explain([&](const at::Tensor& state) { return state.flatten(1).mv(w) + 3; }, options);
  const at::Tensor expected = w.view({kPositions, kFeatures}) * (x - options.fill("x", x));
  EXPECT_LE(relative_error(result.features[0], expected), 1e-12);
  EXPECT_LE(relative_error(result.scores.squeeze(2), expected.sum(2)), 1e-12);
}

// Shrikumar et al. 2017, figure 1: y = 1 - relu(1 - (a + b)), of which gradients see nothing.
TEST(DeepLiftTest, RescaleSeesThroughSaturation) {
  const auto f = [](const at::Tensor& x) { return 1 - at::relu(1 - x.sum({1, 2})); };
  const DeepLift method(model_of(f), {.target = target::scalar});
  const Attribution result = method.attribute(numbered_batch(at::ones({1, 2, 1})));
  EXPECT_TRUE(result.scores.allclose(at::full({1, 2, 1}, 0.5)));
}

// The paper's section 3.5.3: min(a, b) = a - relu(a - b), for which a and b are both needed.
TEST(DeepLiftTest, RevealCancelSharesAMinimum) {
  const auto f = [](const at::Tensor& x) {
    const at::Tensor difference =
        at::linear(x.flatten(1), torch::tensor({1.0f, -1.0f}).view({1, 2}));
    return x.select(1, 0) - at::relu(difference);
  };
  const Batch batch = numbered_batch(at::tensor({3.0f, 1.0f}).view({1, 2, 1}));
  const AttributionOptions options{.target = target::scalar};
  const auto scores = [&](DeepLiftOptions::Activation activation) {
    return DeepLift(model_of(f), options, {activation}).attribute(batch).scores.flatten();
  };
  EXPECT_TRUE(scores(DeepLiftOptions::Activation::rescale).allclose(at::tensor({0.0f, 1.0f})));
  EXPECT_TRUE(
      scores(DeepLiftOptions::Activation::reveal_cancel).allclose(at::tensor({0.5f, 0.5f})));
}

TEST(DeepLiftTest, SeveralReferencesAreAveraged) {
  const auto f = [](const at::Tensor& x) { return weighted_sum(at::tanh(layer(x, 3))); };
  const Fill other = to_one_number().fill;
  const Attribution both =
      explain(f, {.target = target::scalar}, {.references = {fill::zero, other}});
  const Attribution zero = explain(f, {.target = target::scalar}),
                    one = explain(f, to_one_number());
  EXPECT_LE(relative_error(both.scores, (zero.scores + one.scores) / 2), 1e-12);
  EXPECT_EQ(both.passes, 3 * 2);
}

TEST(DeepLiftTest, RefusesBadInput) {
  const auto attribute = [](const std::function<at::Tensor(const at::Tensor&)>& f, Target target,
                            Fill fill = fill::zero) {
    return [=] { DeepLift(model_of(f), {.target = target, .fill = fill}).attribute(example()); };
  };
  const auto classes = [](const at::Tensor& x) { return x.sum(1); };
  const auto rows = [](const at::Tensor& x) { return x; };
  const Fill wrong = [](const std::string&, const at::Tensor&) { return at::zeros({7}); };
  expect_refused({
      {"target", attribute(classes, target::class_index(4)), "in 0..3, the output's classes"},
      {"no target for this output", attribute(rows, target::predicted), "of shape (B, classes)"},
      {"fill", attribute(classes, target::predicted, wrong), "fill of 'x' has to be of a shape"},
      {"independent",
       attribute(
           [](const at::Tensor& x) {
             return at::ones({x.size(0), 2});
           },
           target::predicted),
       "site has to be one that the output depends on"},
      {"positions",
       [&] { DeepLift(model_of(classes)).attribute(numbered_batch(example().inputs[0], 2)); },
       "of 2 positions, as batch.mask"},
      {"site", [&] { DeepLift(model_of(classes), {.sites = {"y"}}); }, "'y' (nearest: x)"},
      {"model", [] { DeepLift(nullptr); }, "model has to be a model"},
  });
}

// Captum's DeepLift, on models that tests/reference/rules.py made.
TEST(DeepLiftTest, AgreesWithCaptum) {
  SKIP_WITHOUT_REFERENCE();
  for (const std::string name : {"mlp", "cnn"}) {
    SCOPED_TRACE(name);
    const Safetensors truth = load_safetensors(reference_file(name + ".safetensors"));
    const auto model = load_script(reference_file(name + ".ts"), {.module_inputs = true});
    const std::string site = model->site_names().front();
    const bool image = name == "cnn";
    const at::Tensor& x = truth.at("input0");
    const DeepLift method(
        model, {.sites = {site},
                .positions = {{image ? Positions::Layout::image : Positions::Layout::sequence}},
                .fill = fill::given({{site, truth.at("baseline")}})});
    const Attribution result =
        method.attribute(numbered_batch(x, image ? x.size(2) * x.size(3) : x.size(1)));
    EXPECT_LE(relative_error(result.features[0], truth.at("deeplift")), 1e-4);
  }
}

// The same rules in Python, of models of tests/reference/rules.py: traced, and exported (BERT's
// attention fused).
TEST(DeepLiftTest, AgreesWithItsRulesWrittenOut) {
  SKIP_WITHOUT_REFERENCE();
  for (const std::string name : {"gru", "lstm", "bert6"}) {
    const Safetensors truth = load_safetensors(reference_file(name + ".safetensors"));
    const at::Tensor difference = truth.at("difference");
    Batch batch = numbered_batch(truth.at("input0"));
    if (name == "bert6") batch.inputs.push_back(truth.at("input1"));
    std::vector<std::string> formats = {name + ".ts"};
    if (DIFFMASK_TORCH_AT_LEAST(2, 0)) formats.push_back(name + ".pt2");
    for (const std::string& format : formats) {
      SCOPED_TRACE(format);
      const auto model = load_program(reference_file(format), {.module_inputs = true});
      const std::string site = name == "bert6" ? "bert.embeddings" : "layers:input";
      const DeepLift method(model,
                            {.sites = {site}, .fill = fill::given({{site, truth.at("baseline")}})});
      const Attribution result = method.attribute(batch);
      EXPECT_LE(relative_error(result.features[0], truth.at("deeplift")), 1e-4);
      EXPECT_LE(relative_error(result.scores.sum({1, 2}), difference), 1e-4);
    }
  }
}

TEST(DeepLift, PartsOfABatchGiveWhatTheWholeGives) {
  const auto model =
      model_of([](const at::Tensor& x) { return weighted_sum(at::tanh(layer(x, 3))); });
  const Batch batch = numbered_batch(random_tensor({5, kPositions, kFeatures}, 1));
  const auto attributed = [&](PassOptions passes) {
    const AttributionOptions options{
        .target = target::scalar, .fill = fill::other_example(make_generator(4)), .passes = passes};
    return DeepLift(model, options).attribute(batch);
  };
  const Attribution whole = attributed({});
  std::vector<int64_t> steps;
  const Attribution parts = attributed({.max_batch = 2, .progress = [&](const Progress& progress) {
                                          steps.push_back(progress.step);
                                          return Action::proceed;
                                        }});
  EXPECT_TRUE(at::allclose(parts.scores, whole.scores, 1e-12));
  EXPECT_TRUE(at::allclose(parts.features[0], whole.features[0], 1e-12));
  EXPECT_TRUE(at::allclose(parts.gap, whole.gap, 0, 1e-12));
  EXPECT_EQ(steps, (std::vector<int64_t>{2, 4, 5}));
  EXPECT_THROW(attributed({.memory = 8}), ArgumentError);
  EXPECT_THROW(attributed({.progress = [](const Progress&) { return Action::stop; }}), Cancelled);
}

}  // namespace
}  // namespace diffmask::deeplift_test
