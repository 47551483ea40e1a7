#include "diffmask/attribution/explainer_file.hpp"

#include <c10/util/hash.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <filesystem>

#include "diffmask/attribution/diffmask.hpp"
#include "diffmask/core/file.hpp"
#include "diffmask/format/safetensors.hpp"
#include "tests/bad_input.hpp"
#include "tests/temporary_folder.hpp"
#include "tests/training_task.hpp"

namespace diffmask {
namespace {

class ExplainerFileTest : public testing::Test {
 protected:
  ExplainerFileTest() { method_.fit(*task_.training, *task_.validation, training_options(5, 9)); }

  // A saved explainer's text.
  std::string saved() const {
    method_.save(path_);
    return read_file(path_);
  }

  // Loads a file of this text.
  std::function<void()> loading(std::string text) const {
    return [this, text = std::move(text)] {
      write_file(path_, text);
      DiffMask::load(path_, task_.model);
    };
  }

  const TemporaryFolder folder_;
  const std::string path_ = folder_ / "a.safetensors";
  const TrainingTask task_ = training_task();
  DiffMask method_{task_.model};
};

std::string replaced(std::string text, const std::string& old, const std::string& with) {
  const size_t at = text.find(old);
  if (at == std::string::npos) throw std::logic_error("nothing to replace: " + old);
  return text.replace(at, old.size(), with);
}

TEST_F(ExplainerFileTest, GivesTheSameBitsBack) {
  const auto expect_same = [&](const DiffMask& method, const std::shared_ptr<StagedModel>& model,
                               const Batch& batch) {
    method.save(path_);
    const DiffMask loaded = DiffMask::load(path_, model);
    const Attribution a = method.attribute(batch), b = loaded.attribute(batch);
    EXPECT_EQ(a.sites, b.sites);
    EXPECT_TRUE(a.scores.equal(b.scores));
    EXPECT_TRUE(a.keep.equal(b.keep));
    const at::Tensor z = at::rand(batch.mask.sizes(), make_generator(1));
    for (int64_t depth = 0; depth < method.explainer().depths(); ++depth) {
      EXPECT_TRUE(
          loaded.masked_output(batch, depth, z).equal(method.masked_output(batch, depth, z)));
    }
    EXPECT_TRUE(same_bits(parameters_of(method.explainer()), parameters_of(loaded.explainer())));
    const std::string first = read_file(path_);
    loaded.save(path_);
    EXPECT_EQ(read_file(path_), first) << "the copy's file differs";
  };
  std::vector<ExplainerOptions> table(4);
  table[1].masking = Masking::input;
  table[1].probe =
      mlp_probe({.hidden_size = 3, .initial_bias = 1.5, .bound = 10, .layer_norm = true});
  table[1].gate = std::make_shared<HardConcrete>(
      HardConcreteOptions{.tau = 0.3, .lower = -0.1, .upper = 1.1, .location_bias = 0.5});
  table[2].probe = free_logits({.initial = 2, .limit = 8});
  table[3].sites = {"high"};
  table[3].baseline.learned = false;
  for (const ExplainerOptions& options : table) {
    DiffMask method(task_.model, options);
    method.fit(*task_.training, *task_.validation, training_options(5));
    expect_same(method, task_.model, task_.training->batch({5, 40, 0}));
  }
  const auto model = image_model();
  DiffMask method(model, image_options());
  method.fit(ImageData(24, 1), ImageData(8, 2), training_options(5));
  expect_same(method, model, ImageData(8, 2).batch({0, 7}));
}

TEST_F(ExplainerFileTest, KeepsOptionsAndTrainingNote) {
  ExplainerOptions options{.masking = Masking::input, .sites = {"low", "high"}};
  options.probe = mlp_probe({.initial_bias = 1.25});
  options.gate = std::make_shared<HardConcrete>(HardConcreteOptions{.straight_through = true});
  options.baseline.learned = false;
  const auto explainer = make_explainer(task_, options);
  save_explainer(path_, *explainer, *task_.model, {UINT64_MAX, 0.1, 1234, "mine"});
  const LoadedExplainer loaded = load_explainer(path_, *task_.model);
  EXPECT_EQ(loaded.note.seed, UINT64_MAX);
  EXPECT_EQ(loaded.note.epsilon, 0.1);
  EXPECT_EQ(loaded.note.steps, 1234);
  EXPECT_EQ(loaded.note.recipe, "mine");
  EXPECT_EQ(loaded.explainer->sites(), options.sites);
  EXPECT_EQ(loaded.explainer->options().masking, Masking::input);
  EXPECT_EQ(loaded.explainer->options().probe.part, options.probe.part);
  EXPECT_EQ(loaded.explainer->options().gate->part(), options.gate->part());
  EXPECT_FALSE(loaded.explainer->baselines()[0].requires_grad());
  EXPECT_TRUE(same_bits(parameters_of(*loaded.explainer), parameters_of(*explainer)));
}

// A gate and a probe that the library does not know.
class Halved : public HardConcrete {
 public:
  at::Tensor mean(const at::Tensor& logits) const override {
    return HardConcrete::mean(logits) / 2;
  }
  Part part() const override { return {"halved", {{"by", 2}}}; }
};

ProbeFactory constant_probe(double value) {
  class Constant : public Probe {
   public:
    explicit Constant(double value) { logit_ = register_parameter("logit", at::full({1}, value)); }
    at::Tensor logits(const ProbeStates& states, const Dropout&) override {
      return logit_.expand(states.features.sizes().slice(0, 2));
    }

   private:
    at::Tensor logit_;
  };
  return {.make = [value](const ProbeInput&,
                          const at::Generator&) { return std::make_shared<Constant>(value); },
          .part = {"constant", {{"value", value}}}};
}

TEST_F(ExplainerFileTest, KeepsAUsersParts) {
  DiffMask method(task_.model, {.probe = constant_probe(1.5), .gate = std::make_shared<Halved>()});
  method.fit(*task_.training, *task_.validation, training_options(5));
  method.save(path_);
  PartFactories own;
  own.gates["halved"] = [](const Part& part) {
    EXPECT_EQ(part.options.at("by"), 2);
    return std::make_shared<Halved>();
  };
  own.probes["constant"] = [](const Part& part) {
    return constant_probe(part.options.at("value"));
  };
  const DiffMask loaded = DiffMask::load(path_, task_.model, own);
  const Batch batch = task_.training->batch({3, 4});
  EXPECT_TRUE(loaded.attribute(batch).scores.equal(method.attribute(batch).scores));
  EXPECT_EQ(loaded.options().probe.part.options.at("value"), 1.5);
  const auto without = [&](const std::string& gate, const std::string& probe) {
    return [=, this] {
      PartFactories some = own;
      some.gates.erase(gate);
      some.probes.erase(probe);
      DiffMask::load(path_, task_.model, some);
    };
  };
  expect_refused<FileError>({
      {"no such gate", without("halved", ""),
       "gate has to be one of bernoulli, hard_concrete, or made by PartFactories::gates, but got "
       "'halved'"},
      {"no such probe", without("", "constant"),
       "probe has to be one of free_logits, mlp, or made by PartFactories::probes"},
  });
}

TEST_F(ExplainerFileTest, RefusesPartsWithoutANameAndWritesNothing) {
  ProbeFactory nameless = mlp_probe();
  nameless.part = {};
  DiffMask method(task_.model, {.probe = nameless});
  method.fit(*task_.training, *task_.validation, training_options(5));
  EXPECT_NO_THROW(method.attribute(task_.training->batch({0})));
  expect_refused({{"no name", [&] { method.save(path_); }, "probe has to be one with a name"}});
  EXPECT_FALSE(std::filesystem::exists(path_));
}

TEST_F(ExplainerFileTest, DoublesStayDoubles) {
  const auto explainer = make_explainer(task_);
  explainer->to(at::kDouble);
  save_explainer(path_, *explainer, *task_.model, {});
  const auto loaded = load_explainer(path_, *task_.model).explainer;
  EXPECT_TRUE(same_bits(parameters_of(*loaded), parameters_of(*explainer)));
}

TEST_F(ExplainerFileTest, RefusesAnotherModel) {
  method_.save(path_);
  const TrainingTask other = training_task(4);
  torch::nn::Sequential few(torch::nn::Linear(3, 4), torch::nn::Linear(4, 2));
  few->eval();
  TrainingTask nudged = training_task();
  {
    at::NoGradGuard no_grad;
    nudged.net->parameters()[0][0][0] += 1e-6;
  }
  const auto load = [&](const std::shared_ptr<StagedModel>& model) {
    return [this, model] { DiffMask::load(path_, model); };
  };
  EXPECT_NO_THROW(load(training_task().model)());
  const std::string reason = "model has to be the one of fingerprint " + task_.model->fingerprint();
  expect_refused<FileError>({
      {"other weights", load(other.model), reason},
      {"one number changed", load(nudged.model), reason},
      {"without the site", load(StagedModel::from(few.ptr())), "'low' (nearest: 0)"},
  });
  expect_refused({{"no model", load(nullptr), "model has to be a model"}});
}

TEST_F(ExplainerFileTest, RefusesTruncatedFiles) {
  const std::string text = saved();
  ASSERT_GT(text.size(), 2000u);
  std::vector<BadInput> table;
  for (size_t i = 0; i < 50; ++i) {
    const size_t size = i < 10 ? i : i == 49 ? text.size() - 1 : text.size() * (i - 9) / 40;
    if (size == text.size()) continue;
    table.push_back({fmt::format("{} bytes", size), loading(text.substr(0, size)), path_});
  }
  table.push_back({"one byte more", loading(text + '\0'), path_});
  expect_refused<FileError>(table);
}

TEST_F(ExplainerFileTest, RefusesFlippedBytes) {
  const std::string text = saved();
  uint64_t header = 0;
  std::memcpy(&header, text.data(), sizeof header);
  const size_t json_end = text.find_last_not_of(' ', 8 + header - 1) + 1;
  std::vector<BadInput> table;
  const auto flip = [&](size_t at, int bits) {
    std::string changed = text;
    changed[at] = static_cast<char>(changed[at] ^ bits);
    table.push_back({fmt::format("byte {} by {}", at, bits), loading(changed), path_});
  };
  for (size_t at = 0; at < 8; ++at) flip(at, 0x01);
  for (size_t at = 8; at < json_end; at += 7) flip(at, 0x01);
  for (size_t at = 8; at < json_end; at += 31) flip(at, 0x80);
  for (size_t at = 8 + header; at < text.size(); at += 13) flip(at, 0x01);
  flip(text.size() - 1, 0x80);
  ASSERT_GT(table.size(), 200u);
  expect_refused<FileError>(table);
  EXPECT_NO_THROW(loading(text)());
}

TEST_F(ExplainerFileTest, RefusesEditedFiles) {
  const std::string text = saved(), edited = "was damaged or edited";
  expect_refused<FileError>({
      {"epsilon", loading(replaced(text, R"(\"epsilon\":0.05)", R"(\"epsilon\":0.01)")), edited},
      {"masking", loading(replaced(text, "hidden\\\"", "inputs\\\"")), edited},
      {"a site's name", loading(replaced(text, R"(\"name\":\"low\")", R"(\"name\":\"lot\")")),
       edited},
      {"a tensor's name", loading(replaced(text, "\"baseline0\"", "\"baseline2\"")), edited},
      {"the dtype of one tensor", loading(replaced(text, "\"F32\"", "\"I32\"")), edited},
  });
}

// A manifest edited by someone who knows how to compute the digest anew.
TEST_F(ExplainerFileTest, RefusesManifestsThatAreNoExplainers) {
  saved();
  const Safetensors file = load_safetensors(path_);
  const auto with = [&](const std::string& manifest) {
    return [&, manifest] {
      std::string digested = manifest;
      for (const auto& [name, tensor] : file.tensors) {
        std::string shape;
        for (const int64_t size : tensor.sizes()) {
          shape += (shape.empty() ? "" : ", ") + std::to_string(size);
        }
        digested += fmt::format("\n{} {} ({}) ", name, c10::toString(tensor.scalar_type()), shape);
        digested.append(static_cast<const char*>(tensor.data_ptr()), tensor.nbytes());
      }
      save_safetensors(path_, file.tensors,
                       {{"manifest", manifest}, {"sha1", c10::sha1(digested).str()}});
      load_explainer(path_, *task_.model);
    };
  };
  const std::string manifest = file.metadata.at("manifest");
  const auto edited = [&](const std::string& old, const std::string& text) {
    return with(replaced(manifest, old, text));
  };
  EXPECT_NO_THROW(with(manifest)());
  const std::string not_ones = "has a manifest that is not an explainer's";
  expect_refused<FileError>({
      {"format", edited(R"("format":2)", R"("format":1)"),
       "format has to be 2, but got 1, of library version "},
      {"no JSON", with("manifest"), not_ones},
      {"a list", with("[]"), not_ones},
      {"nothing", with("{}"), not_ones},
      {"masking", edited(R"("masking":"hidden")", R"("masking":"both")"), "but got both"},
      {"missing site", edited(R"("name":"high")", R"("name":"hgih")"), "'hgih' (nearest: "},
      {"tau", edited(R"("tau":0.2)", R"("tau":-1.0)"), "tau has to be > 0, but got -1"},
      {"tau's type", edited(R"("tau":0.2)", R"("tau":"x")"), not_ones},
      {"features", edited(R"("features":4)", R"("features":5)"), "probe0"},
      {"probe", edited(R"("name":"mlp")", R"("name":"mlq")"), "but got 'mlq'"},
      {"a probe of other options", edited(R"("name":"mlp")", R"("name":"free_logits")"),
       "options of 'free_logits' has to be given with 'initial'"},
  });
}

TEST_F(ExplainerFileTest, RefusesWhatIsNoExplainerFile) {
  const std::string plain = folder_ / "plain.safetensors", text = folder_ / "text";
  save_safetensors(plain, {{"x", at::ones({2})}});
  write_file(text, "not a tensor in sight, but long enough for a header's length");
  const auto load = [&](const std::string& path) {
    return [this, path] { load_explainer(path, *task_.model); };
  };
  expect_refused<FileError>({
      {"safetensors of something else", load(plain), plain + ": is no explainer file"},
      {"text", load(text), "no safetensors file"},
      {"missing", load(folder_ / "no"), "cannot be opened"},
      {"a folder", load(folder_.path()), folder_.path()},
  });
}

// As if the disk were full.
TEST_F(ExplainerFileTest, AFailedWriteLeavesTheOldFile) {
  const std::string old = saved();
  DiffMask next(task_.model);
  next.fit(*task_.training, *task_.validation, training_options(5, 1));
  rlimit kept{};
  ::getrlimit(RLIMIT_FSIZE, &kept);
  void (*const handler)(int) = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit limit{1024, kept.rlim_max};
  ::setrlimit(RLIMIT_FSIZE, &limit);
  std::string message;
  try {
    next.save(path_);
  } catch (const FileError& error) {
    message = error.what();
  }
  ::setrlimit(RLIMIT_FSIZE, &kept);
  std::signal(SIGXFSZ, handler);
  EXPECT_EQ(message, path_ + ": cannot be written: File too large");
  EXPECT_EQ(read_file(path_), old);
  EXPECT_EQ(folder_.count(), 1);
  EXPECT_NO_THROW(DiffMask::load(path_, task_.model));
}

}  // namespace
}  // namespace diffmask
