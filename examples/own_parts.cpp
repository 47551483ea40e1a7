// A gate, a probe, a penalty, a divergence and an attribution method of one's own: what each has to
// say, and that nothing in the library has to be touched for it.
//
//   ./examples/run own_parts
//
// A net learns whether a text has more words 2 than words 3. DiffMask, made of these parts, learns
// which words the net needs; it is saved, loaded and compared with methods of the library. Expect
// the loaded one to mask as the saved one does, and to come near the truth (D_JS near 0), which the
// norm of a state has no way to know.
#include "diffmask/attribution/diffmask.hpp"
#include "diffmask/attribution/site_method.hpp"
#include "diffmask/metrics/comparison.hpp"
#include "diffmask/report/comparison_report.hpp"
#include "diffmask/zoo/nets/gru_classifier.hpp"
#include "diffmask/zoo/nets/supervised.hpp"
#include "program.hpp"

namespace dm = diffmask;

namespace {

// z = clamp(logit + n / 2, 0, 1), n ~ N(0, 1): the stochastic gates of Yamada et al. 2020.
class GaussianGate : public dm::Gate {
 public:
  at::Tensor sample(const at::Tensor& logits, at::Generator generator) const override {
    return (logits + at::randn(logits.sizes(), generator, logits.options()) / 2).clamp(0, 1);
  }
  // E[z] = the integral of P(z > t) over t in (0, 1), by the midpoint rule.
  at::Tensor mean(const at::Tensor& logits) const override {
    const at::Tensor t = (at::arange(16, logits.options()) + 0.5) / 16;
    return at::special_ndtr(2 * (logits.unsqueeze(-1) - t)).mean(-1);
  }
  at::Tensor log_expected_l0(const at::Tensor& logits) const override {
    return at::special_log_ndtr(2 * logits);  // P(z != 0) = P(n > -2 logit)
  }
  dm::Part part() const override { return {"gaussian"}; }
};

// logit = w h + b, from 1 on.
class LinearProbe : public dm::Probe {
 public:
  explicit LinearProbe(int64_t features)
      : weight_(register_parameter("weight", at::zeros({features}))),
        bias_(register_parameter("bias", at::ones({}))) {}
  at::Tensor logits(const dm::ProbeStates& states, const dm::Dropout& dropout) override {
    return dropout(states.features).matmul(weight_) + bias_;
  }

 private:
  at::Tensor weight_, bias_;
};

dm::ProbeFactory linear_probe() {
  return {
      .make = [](const dm::ProbeInput& input,
                 const at::Generator&) { return std::make_shared<LinearProbe>(input.features); },
      .part = {"linear"}};
}

// R = mean sqrt(P): gates that are almost closed are pushed most.
at::Tensor root_penalty(const at::Tensor& log_keep, const at::Tensor& mask) {
  return dm::masked_mean((log_keep / 2).exp(), mask);
}

// D = sum_c |p_c - q_c| / 2, in [0, 1].
at::Tensor total_variation(const at::Tensor& original, const at::Tensor& masked) {
  return (at::softmax(original, 1) - at::softmax(masked, 1)).abs().sum(1) / 2;
}

// score = |h|: what stands out is what matters?
class StateNorm : public dm::SiteMethod {
 public:
  StateNorm(std::shared_ptr<const dm::FrozenModel> model, dm::AttributionOptions options)
      : SiteMethod(std::move(model), std::move(options)) {}

 protected:
  Column explain(const Original& original, int64_t depth) const override {
    const at::Tensor h = original.positions(depth).features(original.state(depth));
    const at::Tensor norm = h.norm(2, {2}).masked_fill(original.batch.mask.logical_not(), 0);
    return {norm, norm.gt(norm.mean(1, /*keepdim=*/true))};
  }
};

int run(const CommonOptions& options) {
  at::set_num_threads(1);
  const auto words = at::randint(2, 12, {options.smoke ? 512 : 4096, 8},
                                 dm::make_generator(options.seed), at::kLong);
  const dm::PaddedDataset data({{words, true}}, at::full(words.size(0), 8),
                               words.eq(2).sum(1).gt(words.eq(3).sum(1)).to(at::kLong));
  const auto net = std::make_shared<dm::GruClassifier>(
      dm::GruClassifierOptions{.vocabulary = 12, .embedding_size = 16, .hidden_size = 16},
      dm::make_generator(options.seed));
  dm::train_supervised(*net, [net](const dm::Inputs& x) { return net->forward(x[0], x[1]); },
                       dm::cross_entropy, data, data,
                       {.epochs = options.smoke ? 2 : 12, .rate = 1e-2});
  const auto model = dm::staged(net);

  dm::DiffMask fitted(
      model,
      {.sites = {"embedding"}, .probe = linear_probe(), .gate = std::make_shared<GaussianGate>()});
  const auto summary = fitted.fit(data, {.epsilon = 0.05,
                                         .steps = options.smoke ? 20 : 500,
                                         .divergence = total_variation,
                                         .recipe = {.name = "own", .penalty = root_penalty}});
  fmt::print("{}\n", summary.full_report());
  const std::string file = "own_parts.safetensors";
  fitted.save(file);
  const auto loaded = std::make_shared<dm::DiffMask>(dm::DiffMask::load(
      file, model,
      {.gates = {{"gaussian", [](const dm::Part&) { return std::make_shared<GaussianGate>(); }}},
       .probes = {{"linear", [](const dm::Part&) { return linear_probe(); }}}}));
  const dm::Batch batch = data.batch(dm::iota(64));
  fmt::print("loaded, it {} as it was saved\n\n",
             loaded->attribute(batch).scores.equal(fitted.attribute(batch).scores) ? "explains"
                                                                                   : "differs");

  dm::add_method({.name = "state_norm", .build = [](const dm::MethodRequest& request) {
                    return std::make_unique<StateNorm>(request.model, request.options);
                  }});
  auto methods = dm::compared_methods(
      {"uniform", "integrated_gradients", "leave_one_out", "state_norm"}, {}, {});
  methods.push_back(dm::compared_explainer("my DiffMask", model, loaded));
  const dm::Subset some(dm::borrowed(data), dm::iota(64));
  dm::ComparisonOptions comparison;
  comparison.sites = {"embedding"};
  comparison.faithfulness.divergence = total_variation;
  comparison.truth = [](const dm::Batch& of) { return of.inputs[0].le(3); };
  fmt::print("{}", dm::markdown_comparison(dm::compare(model, some, methods, comparison)));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("A gate, a probe, a penalty, a divergence and a method of one's own");
  CommonOptions options;
  options.add_seed_and_smoke(app);
  CLI11_PARSE(app, argc, argv);
  return reported("own_parts", [&] { return run(options); });
}
