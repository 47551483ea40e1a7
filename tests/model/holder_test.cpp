// Modules are handed over as they are: shared pointers and TORCH_MODULE holders, const or not.
#include <gtest/gtest.h>

#include "tests/bad_input.hpp"
#include "tests/model/example_models.hpp"

namespace diffmask {
namespace {

struct NetImpl : torch::nn::Module {
  NetImpl()
      : first(register_module("first", torch::nn::Linear(3, 4))),
        second(register_module("second", torch::nn::Linear(4, 2))) {
    eval();
  }
  at::Tensor encode(const at::Tensor& x) { return torch::tanh(first(x)); }
  at::Tensor decode(const at::Tensor& h) { return second(h); }

  torch::nn::Linear first, second;
};
TORCH_MODULE(Net);

// The same with functions that a const module has.
struct ConstNetImpl : NetImpl {
  at::Tensor encode(const at::Tensor& x) const { return torch::tanh(of(first, x)); }
  at::Tensor decode(const at::Tensor& h) const { return of(second, h); }

 private:
  static at::Tensor of(const torch::nn::Linear& layer, const at::Tensor& x) {
    return at::linear(x, layer->weight, layer->bias);
  }
};
TORCH_MODULE(ConstNet);

struct Made {
  std::string name;
  std::shared_ptr<const FrozenModel> model;
};

const Inputs& example() {
  static const Inputs x = {at::randn({5, 3}, at::make_generator<at::CPUGeneratorImpl>(3))};
  return x;
}

// Stages and taps that are handed the module.
template <typename Holder>
std::vector<Made> handed(const std::string& name, const Holder& net) {
  return {
      {name + ", stages",
       StagedModel::from(net, {{"h", [](auto& net, auto& x, auto&) { return net.encode(x); }},
                               {"y", [](auto& net, auto& h, auto&) { return net.decode(h); }}})},
      {name + ", taps", TappedModel::from(
                            net,
                            [](auto& net, const Inputs& x, Tap& tap) {
                              return net.decode(tap("h", net.encode(x[0])));
                            },
                            example())}};
}

// Stages and taps that hold the module, in lambdas that are `mutable` where they have to be.
template <typename Holder>
std::vector<Made> holding(const std::string& name, Holder net) {
  return {
      {name + ", stages",
       std::make_shared<StagedModel>(
           net,
           std::vector<Stage>{{"h", [net](auto& x, auto&) mutable { return net->encode(x); }},
                              {"y", [net](auto& h, auto&) mutable { return net->decode(h); }}})},
      {name + ", taps",
       std::make_shared<TappedModel>(
           net,
           [net](const Inputs& x,
                 Tap& tap) mutable { return net->decode(tap("h", net->encode(x[0]))); },
           example())}};
}

std::vector<Made> models(const ConstNet& net) {
  const Net same(std::static_pointer_cast<NetImpl>(net.ptr()));
  std::vector<Made> all;
  const auto add = [&](const std::vector<Made>& made) {
    all.insert(all.end(), made.begin(), made.end());
  };
  add(handed("holder", Net(same)));
  add(handed("const holder", same));
  add(handed("pointer", same.ptr()));
  add(handed("pointer to const", std::shared_ptr<const ConstNetImpl>(net.ptr())));
  add(holding("held holder", same));
  add(holding("held pointer", same.ptr()));
  add(holding("held pointer to const", std::shared_ptr<const ConstNetImpl>(net.ptr())));
  // README's pattern: a lambda that is not mutable sees a const module.
  all.push_back({"README", std::make_shared<StagedModel>(
                               net, std::vector<Stage>{
                                        {"h", [net](auto& h, auto&) { return net->encode(h); }},
                                        {"y", [net](auto& h, auto&) { return net->decode(h); }}})});
  return all;
}

TEST(HolderTest, EveryWayGivesTheSameModel) {
  at::manual_seed(1);
  ConstNet net;
  const at::Tensor h = net->encode(example()[0]).detach(), y = net->decode(h).detach();
  const at::Tensor weight = net->first->weight.detach().clone();
  for (const Made& made : models(net)) {
    SCOPED_TRACE(made.name);
    EXPECT_EQ(made.model->site_names(), std::vector<std::string>{"h"});
    EXPECT_TRUE(made.model->tensors().at("first.weight").is_same(net->first->weight));
    const Recording recording = made.model->record(example());
    EXPECT_TRUE(recording.output().equal(y));
    EXPECT_TRUE(recording.state("h").equal(h));
    const at::Tensor changed = made.model->resume(recording, "h", h * 2);
    EXPECT_TRUE(changed.equal(net->decode(h * 2)));
  }
  EXPECT_TRUE(net->first->weight.equal(weight));
}

TEST(HolderTest, TakesSequentialsApart) {
  const torch::nn::Sequential layers = example_layers(at::kFloat);
  const std::shared_ptr<const torch::nn::SequentialImpl> pointer = layers.ptr();
  const at::Tensor x = at::ones({2, 3});
  const at::Tensor expected = StagedModel::from(layers.ptr())->record({x}).output();
  EXPECT_TRUE(StagedModel::from(layers)->record({x}).output().equal(expected));
  EXPECT_TRUE(StagedModel::from(pointer)->record({x}).output().equal(expected));
}

TEST(HolderTest, RefusesBadInput) {
  const Net empty(nullptr);
  Net training;
  training->train();
  const auto stages = [](const Net& net) { return [=] { handed("", net); }; };
  const auto taps = [](const Net& net) {
    return [=] {
      TappedModel(
          net, [](auto& x, auto& tap) { return tap("h", x[0]); }, example());
    };
  };
  expect_refused({
      {"empty", stages(empty), "module has to be a module, but got a null pointer"},
      {"empty", taps(empty), "module has to be a module, but got a null pointer"},
      {"empty", [] { StagedModel::from(torch::nn::Sequential(nullptr)); },
       "sequential has to be a module, but got a null pointer"},
      {"training", stages(training), "model has to be in evaluation mode"},
      {"training", taps(training), "model has to be in evaluation mode"},
      {"no function",
       [] {
         StagedModel::from(Net(), {{"h", nullptr}, {"y", nullptr}});
       },
       "stage 'h' has to be a function"},
      {"no function", [] { TappedModel::from(Net(), nullptr, example()); },
       "forward has to be a function"},
  });
}

}  // namespace
}  // namespace diffmask
