#include "diffmask/zoo/nets/counting_net.hpp"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "diffmask/core/file.hpp"
#include "diffmask/core/random.hpp"
#include "diffmask/zoo/nets/weights.hpp"
#include "tests/bad_input.hpp"
#include "tests/temporary_folder.hpp"

namespace diffmask {
namespace {

std::shared_ptr<CountingNet> counting_net(uint64_t seed = 0) {
  auto net = std::make_shared<CountingNet>(make_generator(seed));
  net->eval();
  return net;
}

TEST(CountingNetTest, IsAStagedModel) {
  const auto net = counting_net();
  const auto model = staged(net);
  const Batch batch = make_counting(20, make_generator(1)).dataset().batch({0, 5, 9});
  const Recording recording = model->record(batch.inputs);
  const int64_t length = batch.mask.size(1);
  EXPECT_EQ(model->site_names(), (std::vector<std::string>{"embedding", "encoder"}));
  EXPECT_EQ(recording.state("embedding").sizes(), at::IntArrayRef({3, length, 64}));
  EXPECT_EQ(recording.state("encoder").sizes(), at::IntArrayRef({3, length, 2}));
  EXPECT_EQ(recording.output().sizes(), at::IntArrayRef({3}));
  for (const std::string& site : model->site_names()) {
    EXPECT_TRUE(model->resume(recording, site, recording.state(site)).equal(recording.output()));
  }
}

TEST(CountingNetTest, PaddingDoesNotMatter) {
  const auto model = staged(counting_net());
  const PaddedDataset data = make_counting(200, make_generator(1)).dataset();
  std::vector<int64_t> all(200);
  for (int64_t i = 0; i < 200; ++i) all[i] = i;
  const at::Tensor together = model->record(data.batch(all).inputs).output();
  EXPECT_GT(together.std().item<float>(), 1e-3) << "an output that never changes tests nothing";
  for (int64_t i = 0; i < 200; i += 20) {
    const at::Tensor alone = model->record(data.batch({i}).inputs).output();
    EXPECT_NEAR(alone.item<float>(), together[i].item<float>(), 1e-5);
  }
}

TEST(CountingNetTest, SameSeedSameBits) {
  EXPECT_EQ(staged(counting_net(1))->fingerprint(), staged(counting_net(1))->fingerprint());
  EXPECT_NE(staged(counting_net(1))->fingerprint(), staged(counting_net(2))->fingerprint());
}

TEST(CountingNetTest, LoadsWhatWasSaved) {
  const TemporaryFolder folder;
  const auto net = counting_net(5);
  save_weights(*net, folder / "a.safetensors");
  EXPECT_EQ(staged(load_counting_net(folder / "a.safetensors"))->fingerprint(),
            staged(net)->fingerprint());
  expect_refused<FileError>({{"no file", [&] { load_counting_net(folder / "no"); }, "opened"}});
}

// A net trained in Python, and its logits there: shared/data/toy.
TEST(CountingNetTest, GivesTheReferencesLogits) {
  const char* source = std::getenv("DIFFMASK_SOURCE");
  const char* given = std::getenv("DIFFMASK_DATA");
  const std::string folder =
      (given ? std::string(given) : std::string(source ? source : ".") + "/../shared/data") +
      "/toy";
  if (!std::filesystem::exists(folder)) {
    GTEST_SKIP() << "no " << folder
                 << ": set DIFFMASK_DATA to the folder with toy/model.safetensors";
  }
  const auto reference = nlohmann::json::parse(read_file(folder + "/reference.json"));
  const auto expected = reference["logits_validation_first_20"].get<std::vector<double>>();
  ASSERT_EQ(expected.size(), 20u);
  const CountingData data = read_counting(folder + "/examples.csv", "validation");
  std::vector<int64_t> first(20);
  for (int64_t i = 0; i < 20; ++i) first[i] = i;
  const auto model = staged(load_counting_net(folder + "/model.safetensors"));
  const at::Tensor logits = model->record(data.dataset().batch(first).inputs).output();
  for (int64_t i = 0; i < 20; ++i) EXPECT_NEAR(logits[i].item<double>(), expected[i], 1e-4) << i;
}

}  // namespace
}  // namespace diffmask
