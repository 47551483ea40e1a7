#include "diffmask/zoo/tasks/sentence_task.hpp"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "diffmask/attribution/data_scores.hpp"
#include "diffmask/core/error.hpp"
#include "diffmask/core/random.hpp"
#include "diffmask/zoo/tasks/encoder.hpp"
#include "diffmask/zoo/tasks/made.hpp"
#include "diffmask/zoo/tasks/marked_tokens.hpp"

namespace diffmask {
namespace {

enum SentenceTaskStream : uint64_t { kNet = 100, kRandomWords = 300 };

constexpr int64_t kSentiments = 5;

std::shared_ptr<Bert> net_of(const SentenceTaskOptions& options, const WordPiece& tokenizer,
                             uint64_t seed) {
  const BertHead head{.classes = kSentiments};
  const at::Generator generator = make_generator(derive_seed(seed, kNet));
  return options.encoder.empty() ? small_bert(tokenizer, head, generator)
                                 : load_bert(options.encoder, head, generator);
}

}  // namespace

SupervisedSummary SentenceTask::fine_tune() const {
  return diffmask::fine_tune(*net, tokenizer, training.sentences, development, options.classifier);
}

ExplainerOptions SentenceTask::explainer(Masking masking) const {
  BaselineOptions baseline;
  if (masking == Masking::input && options.classifier.lost_words > 0) {
    baseline = mask_baseline(*net, tokenizer);
  }
  return encoder_explainer(masking, std::move(baseline));
}

TrainerOptions SentenceTask::trainer(Masking masking, double epsilon, int64_t steps) const {
  require(steps >= 1, "steps", ">= 1", steps);
  TrainerOptions trainer = encoder_training(masking, epsilon);
  trainer.steps = steps;
  if (masking == Masking::input) {
    trainer.steps *= 4;
    trainer.recipe.first_share = 0.1;
    trainer.recipe.dropout = 0.3;
  }
  trainer.recipe.validate_every = trainer.steps;
  trainer.batches.batch_size = 32;
  return trainer;
}

std::shared_ptr<StagedModel> SentenceTask::randomised(uint64_t seed) const {
  const std::shared_ptr<Bert> random = net_of(options, tokenizer, seed);
  const at::Generator generator = make_generator(seed);
  at::NoGradGuard no_grad;
  for (at::Tensor& tensor : random->parameters()) {
    if (tensor.dim() > 1) tensor.normal_(0, 0.02, generator);
  }
  random->eval();
  return staged(random);
}

Plausibility SentenceTask::plausibility(const Attributor& method,
                                        const std::vector<RationaleSentence>& rationales,
                                        uint64_t seed) const {
  const at::Generator generator = make_generator(derive_seed(seed, kRandomWords));
  Plausibility people;
  for (const auto& [split, part] : {std::pair{"dev", &development}, std::pair{"test", &test}}) {
    people.add(rationales, split, *part, data_scores(method, part->data), generator);
  }
  return people;
}

Subject SentenceTask::subject(const std::vector<RationaleSentence>& rationales,
                              uint64_t seed) const {
  Subject all{.model = model,
              .data = std::make_shared<EncodedDataset>(test.data),
              .training = std::make_shared<EncodedDataset>(development.data),
              .randomised = randomised(seed)};
  if (rationales.empty()) return all;
  const at::Tensor marked = marked_tokens(rationales, "test", test);
  std::vector<int64_t> order = iota(test.data.size());
  std::stable_partition(order.begin(), order.end(),
                        [&](int64_t i) { return marked[i].any().item<bool>(); });
  all.truth = marked.index_select(0, at::tensor(order));
  all.data = std::make_shared<Subset>(all.data, std::move(order));
  return all;
}

SentenceTask make_sentence_task(const SentenceTaskOptions& options) {
  WordPiece tokenizer =
      options.encoder.empty() ? made_tokenizer() : WordPiece::load(options.encoder);
  SentenceParts parts = options.data.empty()
                            ? review_sentences(made_reviews(300, make_generator(0)), made_lexicon())
                            : read_sentence_parts(options.data, options.lexicon);
  const auto encoded = [&](std::vector<LabelledSentence>& of) {
    return encode_sentences(std::move(of), tokenizer, options.encoding);
  };
  Sentences training = encoded(parts.training), development = encoded(parts.development),
            test = encoded(parts.test);
  const auto net = net_of(options, tokenizer, options.classifier.fine_tuning.seed);
  net->eval();
  return {
      options, std::move(tokenizer), std::move(training), std::move(development), std::move(test),
      net,     staged(net)};
}

}  // namespace diffmask
