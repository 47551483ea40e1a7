// Recurrent operators are taken apart for DeepLIFT and LRP: both give what they give of the same
// net written out.
#include <gtest/gtest.h>
#include <torch/script.h>
#include <torch/torch.h>

#include "diffmask/attribution/propagation/deeplift.hpp"
#include "diffmask/attribution/propagation/lrp.hpp"
#include "diffmask/program/script.hpp"
#include "tests/attribution/propagation/recurrent_nets.hpp"
#include "tests/bad_input.hpp"
#include "tests/temporary_folder.hpp"

namespace diffmask::recurrent_nets {
namespace {

TEST(RecurrentTest, DeepLiftGivesWhatItGivesOfTheParts) {
  const AttributionOptions options{
      .target = target::scalar,
      .fill = fill::given({{"x", random_tensor({kPositions, kFeatures}, 2)}})};
  for (const Net& net : nets()) {
    SCOPED_TRACE(net.name);
    const Batch batch = example();
    EXPECT_LE(
        relative_error(fused(net, batch.inputs[0]), written_out(net, batch.inputs[0], subtracted)),
        1e-12);
    const Attribution parts = DeepLift(in_parts(net, subtracted), options).attribute(batch);
    const Attribution result = DeepLift(whole(net), options).attribute(batch);
    EXPECT_LE(relative_error(result.features[0], parts.features[0]), 1e-9);
    EXPECT_LE(result.gap.abs().max().item<double>(), 1e-9);
  }
}

TEST(RecurrentTest, LrpGivesWhatItGivesOfTheParts) {
  using Rest = LrpOptions::Rest;
  for (const Net& net : nets()) {
    SCOPED_TRACE(net.name);
    const auto relevance = [&](const std::shared_ptr<const FrozenModel>& model, Rest rest) {
      const LrpOptions options{.epsilon = 1e-12, .rest = rest};
      return Lrp(model, kOneNumber, options).attribute(example()).features[0];
    };
    EXPECT_LE(relative_error(relevance(whole(net), Rest::lost),
                             relevance(in_parts(net, negated), Rest::lost)),
              1e-8);
    // The 1 of 1 - z gets nothing where the rest is spread, either.
    EXPECT_LE(relative_error(relevance(whole(net), Rest::spread),
                             relevance(in_parts(net, subtracted), Rest::spread)),
              1e-8);
  }
}

// x times the gradient where gates are constants and f(a) is a (f(a) / a), the fraction a constant.
TEST(RecurrentTest, LrpTakesGatesAsWeights) {
  const auto gate = [](const at::Tensor& a) { return at::sigmoid(a).detach(); };
  const Activations constant{[](const at::Tensor& a) { return at::sigmoid(-a).detach(); }, gate,
                             [](const at::Tensor& a) { return a * (at::tanh(a) / a).detach(); }};
  for (Net net : nets()) {
    if (net.kind == Kind::gru && net.biases) continue;  // r times a constant, of which r has all
    SCOPED_TRACE(net.name);
    net.from_zero = true;
    const at::Tensor x = example().inputs[0].clone().requires_grad_(true);
    const at::Tensor y = written_out(net, x, constant);
    y.mv(random_tensor({y.size(1)}, 9)).sum().backward();
    const Attribution lost = Lrp(whole(net), kOneNumber, {.epsilon = 1e-12}).attribute(example());
    EXPECT_LE(relative_error(lost.features[0], (x * x.grad()).detach()), 1e-8);
  }
}

TEST(RecurrentTest, LrpConservesRelevance) {
  for (const Net& net : nets()) {
    SCOPED_TRACE(net.name);
    const Lrp method(whole(net), kOneNumber, {.rest = LrpOptions::Rest::spread});
    EXPECT_LE(method.attribute(example()).gap.abs().max().item<double>(), 1e-3);
  }
}

TEST(RecurrentTest, CellsGiveWhatTheWholeGives) {
  for (const Net& net : nets()) {
    if (net.layers > 1) continue;
    SCOPED_TRACE(net.name);
    const Batch batch = example();
    const auto cells = by_cells(net, batch.size()), sequence = whole(net);
    EXPECT_LE(relative_error(cells->record(batch.inputs).output(),
                             sequence->record(batch.inputs).output()),
              1e-12);
    EXPECT_LE(relative_error(DeepLift(cells, kOneNumber).attribute(batch).features[0],
                             DeepLift(sequence, kOneNumber).attribute(batch).features[0]),
              1e-9);
    const LrpOptions lrp{.epsilon = 1e-12};
    EXPECT_LE(relative_error(Lrp(cells, kOneNumber, lrp).attribute(batch).features[0],
                             Lrp(sequence, kOneNumber, lrp).attribute(batch).features[0]),
              1e-8);
  }
}

// LibTorch takes the cells of C++ code apart before a trace sees them, with operators in place.
TEST(RecurrentTest, CellsOfATraceHaveRules) {
  const auto traced = [](const Net& net) {
    return weighted([net](const at::Tensor& x) {
      const auto w = net.weights();
      at::Tensor h = net.start(x.size(0), 5)[0], c = net.start(x.size(0), 6)[0];
      std::vector<at::Tensor> outputs;
      for (int64_t t = 0; t < kPositions; ++t) {
        const at::Tensor now = x.select(1, t);
        if (net.kind == Kind::lstm) {
          std::tie(h, c) = at::lstm_cell(now, {h, c}, w[0], w[1], w[2], w[3]);
        } else if (net.kind == Kind::gru) {
          h = at::gru_cell(now, h, w[0], w[1], w[2], w[3]);
        } else {
          h = at::rnn_tanh_cell(now, h, w[0], w[1], w[2], w[3]);
        }
        outputs.push_back(h);
      }
      if (net.kind == Kind::lstm)
        return side_by_side(at::stack(outputs, 1), {h.unsqueeze(0), c.unsqueeze(0)});
      return side_by_side(at::stack(outputs, 1), {h.unsqueeze(0)});
    });
  };
  for (const Net& net : {Net{"rnn", Kind::rnn}, Net{"gru", Kind::gru}, Net{"lstm", Kind::lstm}}) {
    SCOPED_TRACE(net.name);
    const Batch batch = example();
    const auto cells = traced(net), parts = in_parts(net, subtracted);
    EXPECT_LE(
        relative_error(cells->record(batch.inputs).output(), parts->record(batch.inputs).output()),
        1e-12);
    const Lrp spread(cells, kOneNumber, {.rest = LrpOptions::Rest::spread});
    EXPECT_LE(spread.attribute(batch).gap.abs().max().item<double>(), 1e-3);
    EXPECT_LE(DeepLift(cells, kOneNumber).attribute(batch).gap.abs().max().item<double>(), 1e-9);
    EXPECT_LE(relative_error(DeepLift(cells, kOneNumber).attribute(batch).features[0],
                             DeepLift(parts, kOneNumber).attribute(batch).features[0]),
              1e-9);
    if (net.kind == Kind::gru) continue;  // its state is n + z (h - n) there, which LRP tells
    const LrpOptions lrp{.epsilon = 1e-12};
    EXPECT_LE(relative_error(Lrp(cells, kOneNumber, lrp).attribute(batch).features[0],
                             Lrp(parts, kOneNumber, lrp).attribute(batch).features[0]),
              1e-8);
  }
}

// An LSTM's gates know no difference between the biases.
TEST(RecurrentTest, ACellMayHaveOneBias) {
  const Net net{"lstm", Kind::lstm};
  const Batch batch = example();
  const auto one = by_cells(net, batch.size(), /*one_bias=*/true);
  EXPECT_LE(relative_error(DeepLift(one, kOneNumber).attribute(batch).features[0],
                           DeepLift(whole(net), kOneNumber).attribute(batch).features[0]),
            1e-9);
}

// As TorchScript keeps it: a trace of a native model runs the net, and dropout, twice.
TEST(RecurrentTest, RefusesDropoutAtWork) {
  torch::jit::Module start("Start"), net("Net");
  start.define("def forward(self, x):\n  return x.clone()\n");
  net.register_module("start", start);
  const Net layers{"gru", Kind::gru, 2};
  std::string weights;
  int64_t number = 0;
  for (const at::Tensor& weight : layers.weights()) {
    const std::string name = fmt::format("w{}", number++);
    net.register_buffer(name, weight);
    weights += "self." + name + ", ";
  }
  net.register_buffer("h", layers.start(3, 5));
  net.define("def forward(self, x):\n  return torch.gru(self.start.forward(x), self.h, [" +
             weights + "], True, 2, 0.5, True, False, True)[0].sum(2).sum(1)\n");
  net.eval();
  const TemporaryFolder folder;
  net.save(folder / "net.pt");
  const auto model = load_script(folder / "net.pt", {.allow_chance = true});
  expect_refused<ArgumentError>(
      {{"dropout", [&] { DeepLift(model, kOneNumber).attribute(example()); },
        "has to be 0 or at rest, but got 0.5"}});
}

// Where nothing is below 0, rnn_relu is linear: h = sum_t U^(T - 1 - t) W x_t.
TEST(RecurrentTest, LrpOfALinearRecurrence) {
  const at::Tensor x = random_tensor({2, kPositions, kFeatures}, 1).abs();
  const at::Tensor w = random_tensor({kHidden, kFeatures}, 2).abs(),
                   u = random_tensor({kHidden, kHidden}, 3).abs();
  const auto last = [=](const at::Tensor& state) {
    const at::Tensor start = at::zeros({1, state.size(0), kHidden}, state.options());
    return std::get<1>(at::rnn_relu(state, start, {w, u}, false, 1, 0.0, false, false, true))
        .sum(at::IntArrayRef({0, 2}));
  };
  at::Tensor slope = at::ones({1, kHidden}, at::kDouble), expected = at::empty_like(x);
  for (int64_t t = kPositions; t-- > 0; slope = slope.mm(u)) {
    expected.select(1, t).copy_(x.select(1, t) * slope.mm(w));
  }
  const Lrp method(model_of(last), kOneNumber, {.epsilon = 1e-12});
  EXPECT_LE(relative_error(method.attribute(numbered_batch(x)).features[0], expected), 1e-9);
}

// With an entry for their sigmoid gates are explained, too: an entry reaches the parts.
TEST(RecurrentTest, TheTablesRulesReachTheGates) {
  const Net net{"gru", Kind::gru};
  const auto relevance = [&](std::vector<LrpEntry> rules) {
    return Lrp(whole(net), kOneNumber, {.rules = std::move(rules)})
        .attribute(example())
        .features[0];
  };
  const at::Tensor all = relevance({});
  for (const LrpEntry& entry : std::vector<LrpEntry>{
           {.operators = "aten::sigmoid", .rule = lrp::stop()}, {.rule = lrp::gamma()}}) {
    EXPECT_GT(relative_error(relevance({entry}), all), 1e-2);
  }
}

}  // namespace
}  // namespace diffmask::recurrent_nets
