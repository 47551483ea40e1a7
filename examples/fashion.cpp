// Which parts of a photograph do two image classifiers need, and at which depth do they know?
//
//   ./examples/run fashion            installs the data, trains everything, writes fashion.html
//
// Trains a convolutional net and a vision transformer on a part of Fashion-MNIST, then DiffMask
// over patches of 4 x 4 pixels: by input (pixels are masked) and by hidden states (each site's
// patches are). Prints for test images: how well each net does as it is, with what DiffMask masks
// taken away, with as much taken away at random, and with as much taken from everywhere alike.
// Expect the convolutional net to be right on 88.8 % of the test images, and masks of 45 % of the
// pixels (31 % of the patches are black) to cost it a point, where as much at random costs forty.
// The transformer is right on 83.7 %; masks of 28 % cost it 0.2 points, where random ones cost ten.
#include <CLI/CLI.hpp>
#include <chrono>

#include "diffmask/attribution/diffmask.hpp"
#include "diffmask/core/file.hpp"
#include "diffmask/core/random.hpp"
#include "diffmask/metrics/classification.hpp"
#include "diffmask/report/overlay.hpp"
#include "diffmask/zoo/data/images.hpp"
#include "diffmask/zoo/nets/supervised.hpp"
#include "diffmask/zoo/nets/vision.hpp"
#include "encoders.hpp"
#include "mask_scores.hpp"
#include "program.hpp"

namespace dm = diffmask;
using nlohmann::json;

namespace {

constexpr int64_t kClasses = 10, kSide = 7, kPatches = kSide * kSide;
constexpr int64_t kReported = 2000;  // test images that masks are scored on

struct Options {
  std::string data = "/usr/share/datasets/fashion-mnist", html = "fashion.html", json,
              nets = "both";
  uint64_t seed = 0;
  int64_t training = 16000, conv_epochs = 5, transformer_epochs = 8, steps = 300, threads = 2;
  double epsilon = 0.03;
};

// The first images of the training part; its last, to select epochs and steps on; the test part.
struct Data {
  dm::LabelledImages training, validation, test;
};

// A net, what it is called, and where its 7 x 7 patches are at each of its sites.
struct Subject {
  std::string name;
  std::shared_ptr<torch::nn::Module> module;
  std::shared_ptr<dm::StagedModel> model;
  dm::ModuleForward forward;
  dm::SupervisedOptions training;
  std::vector<dm::Positions> positions;
  bool attends = false;  // any patch may read any other
};

dm::Positions patches(int64_t side) { return {dm::Positions::Layout::image, side}; }

Subject conv_subject(const Options& options) {
  const auto net = std::make_shared<dm::ConvClassifier>(
      dm::ConvClassifierOptions{}, dm::make_generator(dm::derive_seed(options.seed, 100)));
  net->eval();
  return {"conv",
          net,
          dm::staged(net),
          [net](const dm::Inputs& x) { return net->forward(x[0]); },
          {.epochs = options.conv_epochs, .rate = 4e-3, .warm_up = 0.05},
          // 28 x 28, 14 x 14 and 7 x 7 cells.
          {patches(4), patches(2), patches(1)}};
}

Subject transformer_subject(const Options& options) {
  const dm::VisionTransformerOptions shape{.layers = 2};
  const auto net = std::make_shared<dm::VisionTransformer>(
      shape, dm::make_generator(dm::derive_seed(options.seed, 101)));
  net->eval();
  std::vector<dm::Positions> positions = {patches(shape.patch)};
  positions.resize(static_cast<size_t>(shape.layers) + 2);  // sequences
  return {
      "transformer",
      net,
      dm::staged(net),
      [net](const dm::Inputs& x) { return net->forward(x[0]); },
      {.epochs = options.transformer_epochs, .rate = 3e-3, .warm_up = 0.1, .weight_decay = 0.02},
      positions,
      /*attends=*/true};
}

dm::TrainerOptions recipe(const Options& options, const Subject& subject, dm::Masking masking) {
  using Schedule = dm::TrainerOptions::Schedule;
  const bool input = masking == dm::Masking::input;
  dm::TrainerOptions trainer;
  if (subject.attends) {
    // Any patch can stand for another, as a text's tokens can. But hidden states at half strength
    // still carry everything, so that expected gates would settle on half-open ones, which no hard
    // mask can copy: hidden gating trains on samples alone.
    trainer = encoder_recipe(masking, options.epsilon, /*unit=*/1, /*rate=*/0.015);
    if (!input) trainer.expected_every = 0;
    trainer.steps = 3 * options.steps;
  } else {
    trainer.epsilon = options.epsilon;
    trainer.steps = options.steps;
    // What pixels alone can tell is settled before depths that know the prediction begin.
    trainer.schedule = input ? Schedule::bottom_up : Schedule::all;
    trainer.expected_every = 2;
    trainer.warm_up = 60;
    trainer.gate_rate = 0.03;
    trainer.criterion = dm::TrainerOptions::Criterion::hard;  // hard masks are what is reported
  }
  trainer.validate_every = 100;
  trainer.seed = options.seed;
  return trainer;
}

// Baselines begin black, as the ground is; probes begin at a logit of 2, as few steps are made.
dm::DiffMask explainer_of(const Subject& subject, dm::Masking masking) {
  dm::ExplainerOptions options;
  options.masking = masking;
  options.sites = subject.model->site_names();
  options.positions = subject.positions;
  options.probe = {.hidden_size = 64, .initial_bias = 2.0, .layer_norm = subject.attends};
  options.baseline.start = dm::BaselineOptions::Start::zero;
  if (masking == dm::Masking::hidden) {  // pixels are masked by input
    options.sites.erase(options.sites.begin());
    options.positions.erase(options.positions.begin());
  }
  return dm::DiffMask(subject.model, options);
}

void train(const Subject& subject, const Options& options, const dm::PaddedDataset& training,
           const dm::PaddedDataset& validation, const std::vector<dm::Callback>& callbacks) {
  dm::SupervisedOptions supervised = subject.training;
  supervised.seed = options.seed;
  const dm::SupervisedLoss loss = [](const at::Tensor& y, const at::Tensor& c) {
    return at::cross_entropy_loss(y, c);
  };
  const auto trained = dm::train_supervised(*subject.module, subject.forward, loss, training,
                                            validation, supervised, callbacks);
  fmt::print("{}: epoch {} of {}, loss {:.4f}, {:.1f} s\n", subject.name, trained.epoch,
             supervised.epochs, trained.loss, trained.seconds);
}

// To mask the ground around a shoe is no feat: the share of patches that are black anyway, and what
// hard masks take of all brightness.
json ground_of(const dm::Explainer& explainer, int64_t depth, dm::RecordedBatches& data) {
  double masked = 0, all = 0, black = 0, count = 0;
  for (int64_t i = 0; i < data.size(); ++i) {
    const auto item = data.at(i);
    const at::Tensor z =
        explainer.gates(item->recording, item->batch, {depth}, dm::Draw::hard).front().z;
    const at::Tensor bright = patches(4).features(item->batch.inputs[0]).sum(2);
    masked += (bright * (1 - z)).sum().item<double>();
    all += bright.sum().item<double>();
    black += bright.eq(0).sum().item<double>();
    count += static_cast<double>(bright.numel());
  }
  return {{"brightness_masked", masked / all}, {"black_patches", black / count}};
}

// Everything masked alike, as much as hard masks are of each image. At the input that only dims it,
// which costs little accuracy: see its divergence.
dm::MaskScore uniform_control(const dm::FrozenModel& model, const dm::Explainer& explainer,
                              int64_t depth, dm::RecordedBatches& data, double epsilon) {
  return dm::score_masks(
      model, explainer, depth, data, epsilon, kClasses, [&](const dm::RecordedBatch& item) {
        const at::Tensor z =
            explainer.gates(item.recording, item.batch, {depth}, dm::Draw::hard).front().z;
        return z.mean(1, /*keepdim=*/true).expand_as(z);
      });
}

json score(const Subject& subject, const dm::DiffMask& method, const std::string& masking,
           dm::RecordedBatches& data, const Options& options) {
  at::NoGradGuard no_grad;
  json report;
  const dm::Explainer& explainer = method.explainer();
  for (int64_t depth = 0; depth < explainer.depths(); ++depth) {
    const std::string& site = explainer.sites()[static_cast<size_t>(depth)];
    const auto scores = dm::score_depth(
        *subject.model, explainer, depth, data, options.epsilon, kClasses, /*draws=*/3,
        dm::make_generator(dm::derive_seed(options.seed, 200 + static_cast<uint64_t>(depth))));
    const auto uniform = uniform_control(*subject.model, explainer, depth, data, options.epsilon);
    print(fmt::format("{}, {}", masking, site), scores.chosen);
    print("  at random", scores.random);
    print("  all alike", uniform);
    report[site] = {{"masked", to_json(scores.chosen)},
                    {"random", to_json(scores.random)},
                    {"uniform", to_json(uniform)}};
    if (explainer.masked_site(depth) == "image") {
      const json ground = ground_of(explainer, depth, data);
      fmt::print("    masks {:.1f}% of the brightness; {:.1f}% of the patches are black\n",
                 100 * ground["brightness_masked"].get<double>(),
                 100 * ground["black_patches"].get<double>());
      report[site].update(ground);
    }
  }
  return report;
}

// Some test images of each net, by input and by hidden states side by side.
std::vector<dm::Overlay> pictures(const std::string& name, const dm::Attribution& both,
                                  const dm::Batch& batch, const at::Tensor& predicted) {
  std::vector<dm::Overlay> rows;
  for (int64_t i = 0; i < batch.size(); ++i) {
    const auto& classes = dm::fashion_classes();
    rows.push_back(
        dm::overlay(both, i, batch.inputs[0][i], kSide,
                    fmt::format("{}: {}, predicted {}", name,
                                classes.at(static_cast<size_t>(batch.labels[i].item<int64_t>())),
                                classes.at(static_cast<size_t>(predicted[i].item<int64_t>())))));
  }
  return rows;
}

// Trains and explains one net; its rows of the page. Nothing where Ctrl-C was pressed.
std::vector<dm::Overlay> explain(const Subject& subject, const Options& options, const Data& data,
                                 const dm::InterruptGuard& guard, json& report) {
  const auto callbacks = [&](const std::string& part) {
    return std::vector<dm::Callback>{dm::progress_bar(subject.name + part), guard.callback()};
  };
  const auto training = data.training.dataset(kPatches);
  const auto validation = data.validation.dataset(kPatches);
  const auto held_out = data.test.part(0, kReported).dataset(kPatches);
  train(subject, options, training, validation, callbacks(""));
  if (guard.interrupted()) return {};
  const at::Tensor predicted =
      dm::predict(*subject.module, subject.forward, data.test.dataset(kPatches)).argmax(1);
  report["test_accuracy"] = dm::accuracy(predicted, data.test.labels);
  fmt::print("{}: accuracy {:.2f}% on all {} test images\n", subject.name,
             100 * report["test_accuracy"].get<double>(), data.test.size());

  dm::DiffMask input = explainer_of(subject, dm::Masking::input);
  dm::DiffMask hidden = explainer_of(subject, dm::Masking::hidden);
  for (auto [method, name] : {std::pair{&input, "input"}, std::pair{&hidden, "hidden"}}) {
    const auto masking = method == &input ? dm::Masking::input : dm::Masking::hidden;
    const auto summary = method->fit(training, validation, recipe(options, subject, masking),
                                     callbacks(fmt::format(", {}", name)));
    if (guard.interrupted()) return {};
    fmt::print("\n{}, {}: {}", subject.name, name, summary.full_report());
  }
  const at::Tensor of_held_out = predicted.narrow(0, 0, kReported);
  const dm::MaskScore original{dm::accuracy(of_held_out, held_out.labels()),
                               dm::macro_f1(of_held_out, held_out.labels(), kClasses), 0, 0, 1};
  print_head(subject.name);
  print("original", original);
  report["original"] = to_json(original);
  dm::RecordedBatches recorded(*subject.model, held_out, subject.model->site_names(),
                               {.batch_size = 250});
  report["input"] = score(subject, input, "input", recorded, options);
  report["hidden"] = score(subject, hidden, "hidden", recorded, options);
  const dm::Batch batch = held_out.batch(dm::iota(12));
  return pictures(
      subject.name,
      dm::side_by_side({{"input", input.attribute(batch)}, {"hidden", hidden.attribute(batch)}}),
      batch, predicted);
}

int run(const Options& options) {
  at::set_num_threads(static_cast<int>(options.threads));
  const auto began = std::chrono::steady_clock::now();
  const dm::InterruptGuard guard;
  const auto all = dm::read_fashion_mnist(options.data, dm::Split::training);
  const Data data{all.part(0, options.training), all.part(all.size() - 1000, 1000),
                  dm::read_fashion_mnist(options.data, dm::Split::test)};
  fmt::print("{} images to train on, {} to select on; of {} test images masks are scored on {}\n",
             data.training.size(), data.validation.size(), data.test.size(), kReported);

  json report;
  std::vector<dm::Overlay> rows;
  for (const Subject& subject : {conv_subject(options), transformer_subject(options)}) {
    if (options.nets != "both" && options.nets != subject.name) continue;
    const auto own = explain(subject, options, data, guard, report[subject.name]);
    if (guard.interrupted()) return 130;
    rows.insert(rows.end(), own.begin(), own.end());
  }
  dm::write_file(options.html,
                 dm::html_overlays("What two image classifiers need",
                                   "Test images of Fashion-MNIST under the probability that a "
                                   "patch is needed at a depth.",
                                   rows));
  if (!options.json.empty()) dm::write_file(options.json, report.dump(2) + "\n");
  fmt::print("wrote {}; {:.0f} s in all\n", options.html,
             std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Which patches of an image do two classifiers need, and at which depth?");
  Options options;
  app.add_option("--data", options.data, "Folder with the four files of Fashion-MNIST")
      ->capture_default_str();
  app.add_option("--html", options.html, "Write the page here")->capture_default_str();
  app.add_option("--json", options.json, "Write the figures here");
  app.add_option("--nets", options.nets, "Which of the nets")
      ->check(CLI::IsMember({"both", "conv", "transformer"}))
      ->capture_default_str();
  app.add_option("--seed", options.seed, "Seed of all that is drawn")->capture_default_str();
  app.add_option("--training", options.training, "Images to train on, the first of 60,000")
      ->capture_default_str();
  app.add_option("--conv-epochs", options.conv_epochs, "Epochs of the convolutional net")
      ->capture_default_str();
  app.add_option("--transformer-epochs", options.transformer_epochs, "Epochs of the transformer")
      ->capture_default_str();
  app.add_option("--steps", options.steps,
                 "Steps of each explainer; of the transformer's three times as many")
      ->capture_default_str();
  app.add_option("--epsilon", options.epsilon, "Divergence allowed, in nats")
      ->capture_default_str();
  app.add_option("--threads", options.threads, "Threads")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  return reported("fashion", [&] { return run(options); });
}
