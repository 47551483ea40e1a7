#include "diffmask/zoo/nets/fine_tuning.hpp"

#include <ATen/ATen.h>
#include <ATen/Context.h>

#include <cstdlib>

#include "diffmask/core/error.hpp"
#include "diffmask/core/shape.hpp"

namespace diffmask {
namespace {

void set_bfloat16(bool wanted) {
  at::globalContext().setFloat32MatmulPrecision(wanted ? "medium" : "highest");
  // oneDNN keeps what it prepared for each of the last 1,024 shapes, of which batches of like
  // lengths have many: gigabytes. It asks once, at its first product, and not again.
  if (wanted) setenv("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "16", /*overwrite=*/0);
  // The fused attention takes many small products, which cost more to prepare than to compute.
  at::globalContext().setSDPUseFlash(!wanted);
}

}  // namespace

SupervisedOptions fine_tuning(const FineTuningOptions& options) {
  return {.epochs = options.epochs,
          .batch_size = options.batch_size,
          .rate = options.rate,
          .final_rate = 0.01,
          .warm_up = 0.1,
          .weight_decay = 0.01,
          .decay_vectors = false,
          .pool = 32,
          .seed = options.seed};
}

at::Tensor frequency_weights(const EncodedDataset& data, int64_t vocabulary) {
  constexpr double kUsual = 5e-4, kLeast = 0.5;
  at::Tensor counts = at::zeros({vocabulary});
  for (const Encoding& encoding : data.encodings()) {
    counts += at::bincount(at::tensor(encoding.ids, at::kLong), {}, vocabulary);
  }
  const at::Tensor frequency = counts / counts.sum();
  return kLeast + (1 - kLeast) * (1 - (kUsual / frequency).sqrt()).clamp_min(0);
}

Inputs with_lost_words(Inputs inputs, const WordPiece& tokenizer, double most,
                       const at::Tensor& weights, const at::Generator& generator) {
  require(!inputs.empty(), "inputs", "at least the ids", "none");
  require(most >= 0 && most <= 1, "most", "in [0, 1]", most);
  check_shape("weights", weights, {tokenizer.size()});
  at::Tensor& ids = inputs[0];
  const auto chance = [&](int64_t tokens) {
    return at::rand({ids.size(0), tokens}, generator, at::TensorOptions(at::kFloat));
  };
  const at::Tensor rates = most * chance(1) * weights.index_select(0, ids.flatten()).view_as(ids);
  at::Tensor lost = chance(ids.size(1)).lt(rates);
  for (const int64_t frame :
       {tokenizer.classification(), tokenizer.separator(), tokenizer.padding()}) {
    lost = lost.logical_and(ids.ne(frame));
  }
  ids = ids.masked_fill(lost, tokenizer.mask());
  return inputs;
}

Bfloat16Products::Bfloat16Products(bool wanted) { set_bfloat16(wanted); }
Bfloat16Products::~Bfloat16Products() { set_bfloat16(false); }

}  // namespace diffmask
