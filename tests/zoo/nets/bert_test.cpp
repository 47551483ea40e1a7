#include "diffmask/zoo/nets/bert.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "diffmask/core/file.hpp"
#include "diffmask/core/random.hpp"
#include "diffmask/format/safetensors.hpp"
#include "diffmask/zoo/nets/weights.hpp"
#include "tests/bad_input.hpp"
#include "tests/finite_difference.hpp"
#include "tests/temporary_folder.hpp"

namespace diffmask {
namespace {

using nlohmann::json;
using Tensors = std::map<std::string, at::Tensor>;

constexpr BertHead kClasses = {BertHead::Kind::classification, 3};
constexpr BertHead kSpan = {BertHead::Kind::span};

json small_config() {
  return {{"model_type", "bert"},    {"vocab_size", 30},          {"hidden_size", 8},
          {"num_hidden_layers", 2},  {"num_attention_heads", 2},  {"intermediate_size", 12},
          {"type_vocab_size", 2},    {"hidden_act", "gelu"},      {"max_position_embeddings", 16},
          {"layer_norm_eps", 1e-12}, {"hidden_dropout_prob", 0.1}};
}

// A file's tensors, under the names and with the shapes that transformers gives them.
Tensors small_tensors() {
  const at::Generator generator = make_generator(3);
  Tensors tensors;
  const auto draw = [&](const std::string& name, at::IntArrayRef shape) {
    tensors[name] = at::randn(shape, generator) * 0.4;
  };
  const auto affine = [&](const std::string& name, int64_t outputs, int64_t inputs) {
    draw(name + ".weight", {outputs, inputs});
    draw(name + ".bias", {outputs});
  };
  const auto norm = [&](const std::string& name) {
    tensors[name + ".weight"] = 1 + 0.2 * at::randn({8}, generator);
    draw(name + ".bias", {8});
  };
  draw("bert.embeddings.word_embeddings.weight", {30, 8});
  draw("bert.embeddings.position_embeddings.weight", {16, 8});
  draw("bert.embeddings.token_type_embeddings.weight", {2, 8});
  tensors["bert.embeddings.position_ids"] = at::arange(16, at::kLong).unsqueeze(0);
  norm("bert.embeddings.LayerNorm");
  for (const std::string layer : {"bert.encoder.layer.0.", "bert.encoder.layer.1."}) {
    for (const std::string part : {"query", "key", "value"}) {
      affine(layer + "attention.self." + part, 8, 8);
    }
    affine(layer + "attention.output.dense", 8, 8);
    norm(layer + "attention.output.LayerNorm");
    affine(layer + "intermediate.dense", 12, 8);
    affine(layer + "output.dense", 8, 12);
    norm(layer + "output.LayerNorm");
  }
  affine("bert.pooler.dense", 8, 8);
  affine("classifier", 3, 8);
  affine("qa_outputs", 2, 8);
  return tensors;
}

void write_folder(const std::string& path, const json& config, const Tensors& tensors) {
  write_file(path + "/config.json", config.dump());
  save_safetensors(path + "/model.safetensors", tensors);
}

// Texts of 9, 4 and 6 ids.
Inputs small_inputs() {
  const at::Tensor mask = at::arange(9) < at::tensor({9, 4, 6}).unsqueeze(1);
  const at::Tensor ids = at::randint(1, 30, {3, 9}, make_generator(1), at::kLong);
  return {ids.masked_fill(mask.logical_not(), 0), mask};
}

at::Tensor output_of(const Bert& net, const Inputs& inputs) {
  at::NoGradGuard no_grad;
  return net.forward(inputs);
}

double largest_difference(const at::Tensor& a, const at::Tensor& b) {
  return (a - b).abs().max().item<double>();
}

class BertTest : public testing::Test {
 protected:
  BertTest() { write_folder(folder_.path(), small_config(), small_tensors()); }

  std::shared_ptr<Bert> load(BertHead head = kClasses) const {
    return load_bert(folder_.path(), head);
  }

  // Writes the folder anew with a change, and loads it.
  std::function<void()> loading(const std::function<void(json&, Tensors&)>& change) const {
    return [this, change] {
      json config = small_config();
      Tensors tensors = small_tensors();
      change(config, tensors);
      write_folder(folder_.path(), config, tensors);
      load();
    };
  }

  TemporaryFolder folder_;
};

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

TEST_F(BertTest, ReadsOtherNamesAndHalfPrecision) {
  const Inputs inputs = small_inputs();
  const at::Tensor expected = output_of(*load(), inputs);
  Tensors bare;
  for (const auto& [name, tensor] : small_tensors()) {
    std::string renamed = name.starts_with("bert.") ? name.substr(5) : name;
    if (const size_t at = renamed.find("LayerNorm.weight"); at != std::string::npos)
      renamed.replace(at + 10, 6, "gamma");
    if (const size_t at = renamed.find("LayerNorm.bias"); at != std::string::npos)
      renamed.replace(at + 10, 4, "beta");
    bare[renamed] = tensor;
  }
  write_folder(folder_.path(), small_config(), bare);
  EXPECT_TRUE(output_of(*load(), inputs).equal(expected));
  for (const auto dtype : {at::kHalf, at::kBFloat16}) {
    for (auto& [name, tensor] : bare) {
      if (tensor.is_floating_point()) tensor = tensor.to(dtype);
    }
    write_folder(folder_.path(), small_config(), bare);
    const at::Tensor output = output_of(*load(), inputs);
    EXPECT_EQ(output.scalar_type(), at::kFloat);
    EXPECT_LT(largest_difference(output, expected), 0.1);
  }
}

TEST_F(BertTest, RefusesFoldersThatAreAmiss) {
  const std::string query = "bert.encoder.layer.1.attention.self.query.weight";
  using J = json;
  using T = Tensors;
  expect_refused<FileError>({
      {"no folder", [&] { load_bert(folder_ / "no", kClasses); }, "config.json: cannot be opened"},
      {"no weights",
       [&] {
         std::filesystem::create_directory(folder_ / "bare");
         write_file(folder_ / "bare/config.json", small_config().dump());
         load_bert(folder_ / "bare", kClasses);
       },
       "model.safetensors: cannot be opened"},
      {"no JSON",
       [&] {
         write_file(folder_ / "config.json", "{");
         load();
       },
       "is not a JSON object"},
      {"model type", loading([](J& c, T&) { c["model_type"] = "t5"; }),
       "model_type has to be bert, roberta or distilbert, but got \"t5\""},
      {"no model type", loading([](J& c, T&) { c.erase("model_type"); }),
       "has no field 'model_type'"},
      {"a field missing", loading([](J& c, T&) { c.erase("hidden_size"); }),
       "has no field 'hidden_size'"},
      {"a text for a size", loading([](J& c, T&) { c["vocab_size"] = "30"; }),
       "vocab_size has to be an integer, but got \"30\""},
      {"a list for a size", loading([](J& c, T&) { c["vocab_size"] = {30}; }), "but got array"},
      {"half a layer", loading([](J& c, T&) { c["num_hidden_layers"] = 1.5; }),
       "num_hidden_layers has to be an integer, but got 1.5"},
      {"no layer", loading([](J& c, T&) { c["num_hidden_layers"] = 0; }), "layers has to be >= 1"},
      {"heads", loading([](J& c, T&) { c["num_attention_heads"] = 3; }),
       "hidden_size has to be a multiple of the 3 heads, but got 8"},
      {"activation", loading([](J& c, T&) { c["hidden_act"] = "relu"; }),
       "hidden_act has to be 'gelu', but got \"relu\""},
      {"positions", loading([](J& c, T&) { c["position_embedding_type"] = "relative_key"; }),
       "position_embedding_type has to be 'absolute'"},
      {"dropout", loading([](J& c, T&) { c["hidden_dropout_prob"] = 1; }), "in [0, 1), but got 1"},
      {"a tensor missing", loading([&](J&, T& t) { t.erase(query); }),
       "has no tensor '" + query + "' (nearest: "},
      {"no head", loading([](J&, T& t) { t.erase("classifier.weight"); }),
       "has no tensor 'classifier.weight'"},
      {"shape", loading([&](J&, T& t) {
         t[query] = at::zeros({8, 9});
       }),
       "tensor '" + query + "' has to be of shape (8, 8) after config.json, but got (8, 9)"},
      {"another vocabulary", loading([](J& c, T&) { c["vocab_size"] = 31; }),
       "word_embeddings.weight' has to be of shape (31, 8) after config.json, but got (30, 8)"},
      {"a size far beyond memory", loading([](J& c, T&) { c["vocab_size"] = 1'000'000'000'000; }),
       "has to be of shape (1000000000000, 8)"},
      {"layers far beyond memory",
       loading([](J& c, T&) { c["num_hidden_layers"] = 1'000'000'000; }),
       "has no tensor 'bert.encoder.layer.999999999."},
      {"another number of classes", loading([](J&, T& t) {
         t["classifier.weight"] = at::zeros({2, 8});
       }),
       "'classifier.weight' has to be of shape (3, 8)"},
      {"whole numbers", loading([&](J&, T& t) {
         t[query] = at::zeros({8, 8}, at::kLong);
       }),
       "has to be of floating point, but got Long"},
      {"a layer too many", loading([](J& c, T&) { c["num_hidden_layers"] = 1; }),
       "but its config.json has 1 layers"},
      {"a layer too few", loading([](J& c, T&) { c["num_hidden_layers"] = 3; }),
       "has no tensor 'bert.encoder.layer.2."},
  });
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

// What transformers itself computes, on models that tests/reference/bert.py writes.
TEST(BertReferenceTest, GivesTransformersStatesAndGradients) {
  const char* given = std::getenv("DIFFMASK_BERT");
  if (!given) GTEST_SKIP() << "set DIFFMASK_BERT to the folder that tests/reference/bert.py wrote";
  int64_t models = 0;
  for (const auto& entry : std::filesystem::directory_iterator(given)) {
    const std::string path = entry.path();
    SCOPED_TRACE(path);
    const Safetensors reference = load_safetensors(path + "/reference.safetensors");
    const bool has_output = reference.tensors.contains("output");
    const bool spans = has_output && reference.at("output").dim() == 3;
    const auto net = has_output ? load_bert(path, spans ? kSpan : kClasses)
                                : load_bert(path, kClasses, make_generator(0));
    Inputs inputs = {reference.at("ids"), reference.at("mask")};
    if (reference.tensors.contains("types")) inputs.push_back(reference.at("types"));
    const auto model = staged(net);
    const Recording recording = model->record(inputs);
    const at::Tensor padding = inputs[1].logical_not().unsqueeze(2);
    double worst_state = 0, worst_gradient = 0, worst_output = 0;
    for (const std::string& site : model->site_names()) {
      const at::Tensor& state = recording.state(site);
      const at::Tensor difference = (state - reference.at("state/" + site)).masked_fill(padding, 0);
      worst_state = std::max(worst_state, difference.abs().max().item<double>());
      if (!has_output) continue;
      const at::Tensor leaf = state.clone().requires_grad_();
      const at::Tensor output = model->resume(recording, site, leaf);
      const at::Tensor total = output.masked_select(output.ne(-INFINITY)).sum();
      worst_gradient =
          std::max(worst_gradient, largest_difference(torch::autograd::grad({total}, {leaf})[0],
                                                      reference.at("grad/" + site)));
    }
    if (has_output) {
      const at::Tensor mask = spans ? inputs[1].unsqueeze(2) : at::ones({}, at::kBool);
      worst_output = largest_difference(recording.output().masked_select(mask),
                                        reference.at("output").masked_select(mask));
    }
    fmt::print("{}: states {:.2g}, gradients {:.2g}, output {:.2g}\n",
               entry.path().filename().string(), worst_state, worst_gradient, worst_output);
    EXPECT_LT(worst_state, 1e-5);
    EXPECT_LT(worst_gradient, 1e-4);
    EXPECT_LT(worst_output, 1e-5);
    ++models;
  }
  EXPECT_GE(models, 4);
}

}  // namespace
}  // namespace diffmask
