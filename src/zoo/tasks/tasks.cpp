#include "diffmask/zoo/tasks/tasks.hpp"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <utility>

#include "diffmask/core/error.hpp"
#include "diffmask/zoo/data/counting.hpp"
#include "diffmask/zoo/data/motif_graphs.hpp"

namespace diffmask {
namespace {

// Uniform integers from `low` to `high`, both included.
at::Tensor draw(int64_t low, int64_t high, at::IntArrayRef shape, const at::Generator& generator) {
  return at::randint(low, high + 1, shape, generator, at::TensorOptions(at::kLong));
}

// True at these positions of each row. Shape: indices (N) each -> (N, positions) bool.
at::Tensor positions_at(const std::vector<at::Tensor>& indices, int64_t positions) {
  const at::Tensor none = at::zeros({indices[0].size(0), positions}, at::kBool);
  return none.scatter(1, at::stack(indices, 1), true);
}

// x[position], row by row.
at::Tensor read(const at::Tensor& tokens, const at::Tensor& position) {
  return tokens.gather(1, position.unsqueeze(1)).squeeze(1);
}

TaskData task_data(at::Tensor tokens, at::Tensor labels, at::Tensor truth) {
  const at::Tensor lengths = at::full({tokens.size(0)}, tokens.size(1), at::kLong);
  return {std::make_shared<PaddedDataset>(
              std::vector<PaddedDataset::Column>{{std::move(tokens), /*is_sequence=*/true}},
              lengths, labels.to(at::kLong)),
          std::move(truth)};
}

}  // namespace

TaskData TaskData::answered() const {
  const at::Tensor rows = truth.any(1).nonzero().squeeze(1).contiguous();
  const int64_t* first = rows.data_ptr<int64_t>();
  const auto some =
      std::make_shared<Subset>(data, std::vector<int64_t>(first, first + rows.numel()));
  return {some, truth.index_select(0, rows).narrow(1, 0, some->longest())};
}

TaskData make_majority(int64_t size, at::Generator generator) {
  require(size >= 1, "size", ">= 1", size);
  constexpr int64_t kLength = 9;
  const at::Tensor count = 2 * draw(0, 2, {size, 1}, generator) + 1;
  // `count` of the ranks of random numbers are below `count`.
  const at::Tensor order = at::argsort(at::rand({size, kLength}, generator), int64_t{1}, false);
  const at::Tensor truth = at::argsort(order, int64_t{1}, false).lt(count);
  const at::Tensor tokens = at::where(truth, draw(1, 2, {size, kLength}, generator),
                                      draw(3, 8, {size, kLength}, generator));
  return task_data(tokens, tokens.eq(1).sum(1).gt(tokens.eq(2).sum(1)), truth);
}

TaskData make_lookup(int64_t size, at::Generator generator) {
  require(size >= 1, "size", ">= 1", size);
  constexpr int64_t kLength = 8;
  const at::Tensor tokens = draw(1, kLength - 1, {size, kLength}, generator);
  const at::Tensor first = at::zeros({size}, at::kLong), named = tokens.select(1, 0);
  return task_data(tokens, read(tokens, named) - 1, positions_at({first, named}, kLength));
}

TaskData make_two_hop(int64_t size, at::Generator generator) {
  require(size >= 1, "size", ">= 1", size);
  constexpr int64_t kLength = 8;
  // One of the kLength - 2 tokens other than the position itself.
  const at::Tensor others = draw(1, kLength - 2, {size, kLength}, generator);
  const at::Tensor tokens = others + others.ge(at::arange(kLength)).to(at::kLong);
  tokens.select(1, 0).copy_(draw(1, kLength - 1, {size}, generator));
  const at::Tensor first = at::zeros({size}, at::kLong), i = tokens.select(1, 0).clone();
  const at::Tensor j = read(tokens, i);
  return task_data(tokens, read(tokens, j) - 1, positions_at({first, i, j}, kLength));
}

TaskData make_palindrome(int64_t size, at::Generator generator) {
  require(size >= 1, "size", ">= 1", size);
  constexpr int64_t kLength = 8, kSymbols = 4;
  const at::Tensor half = draw(1, kSymbols, {size, kLength / 2}, generator);
  const at::Tensor palindrome = at::cat({half, half.flip(1)}, 1);
  const at::Tensor changed = draw(0, 1, {size, 1}, generator).to(at::kBool);
  const at::Tensor place = draw(0, kLength - 1, {size}, generator);
  const at::Tensor here = positions_at({place}, kLength).logical_and(changed);
  // One of the other symbols, 1 to kSymbols - 1 further on in a circle.
  const at::Tensor further = draw(1, kSymbols - 1, {size, 1}, generator);
  const at::Tensor other = at::remainder(palindrome - 1 + further, kSymbols) + 1;
  return task_data(at::where(here, other, palindrome), changed.squeeze(1),
                   here.logical_or(here.flip(1)));
}

TaskData make_counting_task(int64_t size, at::Generator generator) {
  const CountingData data = make_counting(size, std::move(generator));
  return {std::make_shared<PaddedDataset>(data.dataset()), data.relevant()};
}

TaskData make_ba_shapes_task(int64_t size, at::Generator generator) {
  require(size >= 1, "size", ">= 1", size);
  constexpr int64_t kBase = 30, kHouses = 8, kNodes = kBase + 5 * kHouses;
  const MotifGraph drawn = make_ba_shapes(
      generator, {.base = kBase, .motifs = kHouses, .graphs = (size - 1) / kNodes + 1});
  std::vector<int64_t> nodes = shuffled(drawn.graph.nodes(), generator);
  nodes.resize(static_cast<size_t>(size));
  const auto data = std::make_shared<NodeDataset>(drawn.graph, nodes, /*hops=*/3);
  return {data, drawn.truth(*data, iota(size))};
}

const std::vector<Task>& tasks() {
  static const std::vector<Task> all = {
      {"counting", 10, 2, make_counting_task}, {"majority", 9, 2, make_majority},
      {"lookup", 8, 7, make_lookup},           {"two_hop", 8, 7, make_two_hop},
      {"palindrome", 5, 2, make_palindrome},   {"ba_shapes", 0, 4, make_ba_shapes_task}};
  return all;
}

const Task& task(const std::string& name) {
  std::vector<std::string> names;
  for (const Task& each : tasks()) {
    if (each.name == name) return each;
    names.push_back(each.name);
  }
  throw ArgumentError("task", fmt::format("one of {}", fmt::join(names, ", ")),
                      with_nearest(name, names));
}

}  // namespace diffmask
