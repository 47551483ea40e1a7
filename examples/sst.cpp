// Which words of a sentence does an encoder need to tell its sentiment, and at which layer does it
// know?
#include <CLI/CLI.hpp>
#include <chrono>
#include <filesystem>

#include "diffmask/attribution/diffmask.hpp"
#include "diffmask/core/error.hpp"
#include "diffmask/core/file.hpp"
#include "diffmask/core/random.hpp"
#include "diffmask/data/encoded.hpp"
#include "diffmask/data/trees.hpp"
#include "diffmask/metrics/classification.hpp"
#include "diffmask/nets/bert.hpp"
#include "diffmask/nets/weights.hpp"
#include "diffmask/train/supervised.hpp"

namespace dm = diffmask;

namespace {

constexpr int64_t kClasses = 5;

struct Options {
  std::string data, model, classifier;
  uint64_t seed = 0;
  int64_t epochs = 3;
  bool words = false, mask_special = false;
};

// A file of trees, as the encoder reads it.
struct Part {
  std::vector<dm::LabelledSentence> sentences;
  dm::EncodedDataset data;
};

Part read_part(const Options& options, const dm::WordPiece& tokenizer, const std::string& name) {
  std::vector<dm::LabelledSentence> sentences = dm::read_trees(options.data + "/" + name + ".txt");
  std::vector<dm::Encoding> encodings;
  std::vector<int64_t> labels;
  for (const dm::LabelledSentence& sentence : sentences) {
    encodings.push_back(tokenizer.encode_words(sentence.words));
    labels.push_back(sentence.label);
  }
  dm::EncodedDataset data(std::move(encodings), at::tensor(labels, at::kLong),
                          {.explain_special = options.mask_special,
                           .tie_words = options.words,
                           .padding = tokenizer.padding()});
  return {std::move(sentences), std::move(data)};
}

int run(const Options& options) {
  const dm::InterruptGuard guard;
  const auto callbacks = [&](const std::string& title) {
    return std::vector<dm::Callback>{dm::progress_bar(title), guard.callback()};
  };
  const auto tokenizer = dm::WordPiece::load(options.model);
  const Part training = read_part(options, tokenizer, "train"),
             development = read_part(options, tokenizer, "dev"),
             test = read_part(options, tokenizer, "test");
  fmt::print("{} sentences to train on, {} to select on, {} to report on\n", training.data.size(),
             development.data.size(), test.data.size());

  const auto net = dm::load_bert(options.model, {.classes = kClasses},
                                 dm::make_generator(dm::derive_seed(options.seed, 100)));
  const auto forward = [net](const dm::Inputs& x) { return net->forward(x); };
  const dm::Loss loss = [](const at::Tensor& y, const at::Tensor& c) {
    return at::cross_entropy_loss(y, c);
  };
  if (!options.classifier.empty() && std::filesystem::exists(options.classifier)) {
    dm::load_weights(*net, options.classifier);
  } else {
    dm::SupervisedOptions supervised{.epochs = options.epochs, .batch_size = 32, .rate = 1e-4};
    supervised.final_rate = 0.01;
    supervised.warm_up = 0.1;
    supervised.weight_decay = 0.01;
    supervised.decay_vectors = false;
    supervised.pool = 32;
    supervised.seed = options.seed;
    const auto trained = dm::train_supervised(*net, forward, loss, training.data, development.data,
                                              supervised, callbacks("classifier"));
    fmt::print("classifier: epoch {} of {}, loss {:.4f}, {:.1f} s\n", trained.epoch, options.epochs,
               trained.loss, trained.seconds);
    if (!options.classifier.empty()) dm::save_weights(*net, options.classifier);
  }
  for (const Part* part : {&development, &test}) {
    const at::Tensor predicted = dm::predict(forward, part->data).argmax(1);
    fmt::print("accuracy {:.3f}, macro-F1 {:.3f}\n", dm::accuracy(predicted, part->data.labels()),
               dm::macro_f1(predicted, part->data.labels(), kClasses));
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Which words does an encoder need, and at which layer does it know?");
  Options options;
  app.add_option("--data", options.data, "Folder of train.txt, dev.txt, test.txt")->required();
  app.add_option("--model", options.model, "Hugging Face folder of an encoder")->required();
  app.add_option("--classifier", options.classifier, "Fine-tuned weights: loaded if there, saved if not");
  app.add_option("--seed", options.seed, "Seed of all that is drawn")->capture_default_str();
  app.add_option("--epochs", options.epochs, "Epochs of fine-tuning")->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  try {
    return run(options);
  } catch (const c10::Error& error) {
    fmt::print(stderr, "sst: {}\n", error.what_without_backtrace());
  } catch (const std::exception& error) {
    fmt::print(stderr, "sst: {}\n", error.what());
  }
  return 1;
}
