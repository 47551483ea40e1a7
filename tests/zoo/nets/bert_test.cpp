#include "diffmask/zoo/nets/bert.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "diffmask/core/file.hpp"
#include "diffmask/core/random.hpp"
#include "diffmask/zoo/nets/weights.hpp"
#include "tests/bad_input.hpp"
#include "tests/finite_difference.hpp"
#include "tests/zoo/nets/bert_folder.hpp"

namespace diffmask {
namespace {

using nlohmann::json;
using BertTest = BertFolder;

TEST_F(BertTest, IsAStagedModel) {
  for (const BertHead& head : {kClasses, kSpan}) {
    const auto net = load(head);
    const auto model = staged(net);
    const Inputs inputs = small_inputs();
    const Recording recording = model->record(inputs);
    EXPECT_EQ(model->site_names(),
              (std::vector<std::string>{"word_embeddings", "embeddings", "layer.0", "layer.1"}));
    EXPECT_EQ(recording.output().sizes(), head.kind == BertHead::Kind::span
                                              ? at::IntArrayRef({3, 9, 2})
                                              : at::IntArrayRef({3, 3}));
    // A classification takes a shorter way where no state of the last layer is asked for.
    const auto as_recorded = [&](const at::Tensor& output) {
      if (head.kind == BertHead::Kind::span) return output.equal(recording.output());
      return largest_difference(output, recording.output()) < 1e-6;
    };
    EXPECT_TRUE(as_recorded(output_of(*net, inputs)));
    EXPECT_TRUE(as_recorded(model->record(inputs, {"layer.0"}).output()));
    for (const std::string& site : model->site_names()) {
      const at::Tensor state = recording.state(site).clone();
      EXPECT_EQ(state.sizes(), at::IntArrayRef({3, 9, 8}));
      EXPECT_TRUE(as_recorded(model->resume(recording, site, state))) << site;
      EXPECT_TRUE(as_recorded(model->resume(recording, site, state.requires_grad_())))
          << site << ", with a graph";
      EXPECT_FALSE(as_recorded(model->resume(recording, site, -state))) << site;
    }
  }
}

TEST_F(BertTest, PaddingDoesNotChangeTheOutput) {
  const auto net = load();
  const Inputs inputs = small_inputs();
  const at::Tensor together = output_of(*net, inputs);
  EXPECT_GT(together.std(0).min().item<float>(), 1e-3) << "outputs all alike test nothing";
  const at::Tensor spans = output_of(*load(kSpan), inputs);
  EXPECT_TRUE(spans.eq(-INFINITY).equal(inputs[1].logical_not().unsqueeze(2).expand({3, 9, 2})));
  for (const auto& [row, length] : {std::pair{0, 9}, {1, 4}, {2, 6}}) {
    const Inputs alone = {inputs[0].slice(0, row, row + 1).slice(1, 0, length),
                          inputs[1].slice(0, row, row + 1).slice(1, 0, length)};
    EXPECT_LT(largest_difference(output_of(*net, alone)[0], together[row]), 1e-6) << row;
    EXPECT_LT(largest_difference(output_of(*load(kSpan), alone)[0], spans[row].slice(0, 0, length)),
              1e-6);
  }
  Inputs others = inputs;
  others[0] = inputs[0].masked_fill(inputs[1].logical_not(), 29);
  EXPECT_LT(largest_difference(output_of(*net, others), together), 1e-6);
}

TEST_F(BertTest, ReadsTypes) {
  const auto net = load();
  const Inputs inputs = small_inputs();
  const auto with = [&](const at::Tensor& types) {
    return output_of(*net, {inputs[0], inputs[1], types});
  };
  EXPECT_TRUE(with(at::zeros({3, 9}, at::kLong)).equal(output_of(*net, inputs)));
  const at::Tensor ones = at::ones({3, 9}, at::kLong);
  EXPECT_GT(largest_difference(with(ones), output_of(*net, inputs)), 1e-3);
  const at::Tensor recorded = staged(net)->record({inputs[0], inputs[1], ones}).output();
  EXPECT_LT(largest_difference(recorded, with(ones)), 1e-6) << "another way through the last layer";
}

TEST_F(BertTest, GradientsAreThoseOfFiniteDifferences) {
  for (const BertHead& head : {kClasses, kSpan}) {
    const auto net = load(head);
    net->to(at::kDouble);
    const auto model = staged(net);
    const Recording recording = model->record(small_inputs());
    for (const std::string& site : model->site_names()) {
      SCOPED_TRACE(site);
      expect_gradient(
          [&](const at::Tensor& state) {
            const at::Tensor output = model->resume(recording, site, state);
            const at::Tensor finite = output.masked_select(output.ne(-INFINITY));
            return (finite * at::arange(1.0, finite.numel() + 1.0, at::kDouble).cos()).sum();
          },
          recording.state(site), 1e-6);
    }
  }
}

TEST_F(BertTest, AFrozenNetIsLeftAlone) {
  const auto net = load();
  const auto model = staged(net);
  const std::string before = model->fingerprint();
  const Recording recording = model->record(small_inputs());
  const at::Tensor state = recording.state("word_embeddings").clone().requires_grad_();
  model->resume(recording, "word_embeddings", state).sum().backward();
  EXPECT_TRUE(state.grad().defined());
  for (const auto& item : net->named_parameters()) {
    EXPECT_TRUE(item.value().requires_grad()) << item.key();
    EXPECT_FALSE(item.value().grad().defined()) << item.key();
  }
  EXPECT_EQ(model->fingerprint(), before);
}

TEST_F(BertTest, IsFineTunedAndSaved) {
  const auto net = load_bert(folder_.path(), kClasses, make_generator(5));
  const auto other =
      load_bert(folder_.path(), {BertHead::Kind::classification, 4}, make_generator(5));
  const Inputs inputs = small_inputs();
  EXPECT_TRUE(output_of(*net, inputs).equal(output_of(*load(), inputs))) << "the file's own head";
  EXPECT_EQ(output_of(*other, inputs).sizes(), at::IntArrayRef({3, 4}));
  const auto drawn = other->named_parameters();
  EXPECT_TRUE(drawn["pooler.weight"].equal(net->named_parameters()["pooler.weight"]));
  EXPECT_NEAR(drawn["classifier.weight"].std().item<float>(), 0.02, 0.01);
  EXPECT_EQ(drawn["classifier.bias"].abs().max().item<float>(), 0);

  other->train();
  const at::Tensor first = other->forward(inputs);
  EXPECT_FALSE(first.equal(other->forward(inputs))) << "dropout";
  first.square().sum().backward();
  at::NoGradGuard no_grad;
  for (const auto& item : other->named_parameters()) {
    ASSERT_TRUE(item.value().grad().defined()) << item.key();
    // softmax does not see what a key's bias adds to all scores of a query.
    if (item.key().find("key.bias") == std::string::npos) {
      EXPECT_GT(item.value().grad().abs().max().item<float>(), 0) << item.key();
    }
    at::Tensor(item.value()).sub_(0.1 * item.value().grad());
  }
  other->eval();
  save_weights(*other, folder_ / "tuned.safetensors");
  const auto again = std::make_shared<Bert>(other->config(), other->head(), make_generator(9));
  again->eval();
  load_weights(*again, folder_ / "tuned.safetensors");
  EXPECT_TRUE(output_of(*again, inputs).equal(output_of(*other, inputs)));
  EXPECT_EQ(staged(again)->fingerprint(), staged(other)->fingerprint());
}

TEST_F(BertTest, SameSeedSameBits) {
  const auto draws = [&](uint64_t seed) {
    Bert net(BertConfig::read(folder_.path()), kClasses, make_generator(seed));
    at::rand({7});                          // of the global generator, which is not to matter
    return output_of(net, small_inputs());  // a new module is in training mode: dropout
  };
  EXPECT_TRUE(draws(1).equal(draws(1)));
  EXPECT_FALSE(draws(1).equal(draws(2)));
}

TEST_F(BertTest, RefusesBadInputs) {
  const auto model = staged(load());
  const at::Tensor ids = at::ones({2, 5}, at::kLong), mask = at::ones({2, 5}, at::kBool);
  const auto with = [&](const Inputs& inputs) {
    return [&model, inputs] { model->record(inputs); };
  };
  const at::Tensor long_ids = at::ones({1, 17}, at::kLong);
  expect_refused({
      {"an id too large", with({ids * 30, mask}), "ids has to be in [0, 30), but got 30"},
      {"a negative id", with({-ids, mask}), "ids has to be in [0, 30), but got -1"},
      {"too long", with({long_ids, long_ids.to(at::kBool)}),
       "ids has to be of at most 16 positions, but got 17"},
      {"one dimension", with({ids[0], mask}), "ids has to be of shape (-1, -1), but got (5)"},
      {"empty", with({ids.slice(1, 0, 0), mask}), "ids has to be of shape"},
      {"dtype", with({ids.to(at::kInt), mask}), "ids has to be of dtype Long, but got Int"},
      {"mask", with({ids, mask.slice(1, 0, 4)}), "mask has to be of shape (2, 5), but got (2, 4)"},
      {"mask's dtype", with({ids, ids}), "mask has to be of dtype Bool"},
      {"no mask", with({ids}), "inputs has to be ids, mask and, optionally, types"},
      {"an empty row", with({ids, at::tensor({1, 0}).to(at::kBool).unsqueeze(1).expand({2, 5})}),
       "mask has to be true at one position or more of every row"},
      {"types", with({ids, mask, ids * 2}), "types has to be in [0, 2), but got 2"},
      {"types' shape", with({ids, mask, ids[0]}), "types has to be of shape (2, 5)"},
      {"training without a generator",
       [&] {
         const auto net = load();
         net->train();
         net->forward({ids, mask});
       },
       "generator has to be given to load_bert"},
      {"training without a generator, attention's dropout alone",
       [&] {
         json config = small_config();
         config["hidden_dropout_prob"] = 0;
         write_folder(folder_.path(), config, small_tensors());
         const auto net = load();
         net->train();
         net->forward({ids, mask});
       },
       "generator has to be given to load_bert"},
      {"no classes",
       [&] {
         load({BertHead::Kind::classification, 0});
       },
       "classes has to be >= 1"},
      {"a null pointer", [] { staged(std::shared_ptr<Bert>()); }, "net has to be a net"},
  });
}

}  // namespace
}  // namespace diffmask
