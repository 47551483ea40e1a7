#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "diffmask/zoo/data/graphs.hpp"

#include <algorithm>
#include <cstdint>
#include <map>
#include <string_view>
#include <utility>
#include <vector>

#include "diffmask/core/error.hpp"
#include "diffmask/core/shape.hpp"

namespace diffmask {
namespace {

constexpr int64_t kNoLabel = -100;

using Ends = std::pair<int64_t, int64_t>;

std::vector<Ends> ends_of(const Graph& graph) {
  const at::Tensor edges = graph.edges.contiguous();
  const int64_t* from = edges.data_ptr<int64_t>();
  const int64_t* to = from + edges.size(1);
  std::vector<Ends> ends;
  for (int64_t e = 0; e < edges.size(1); ++e) ends.emplace_back(from[e], to[e]);
  return ends;
}

// The indices of the edges into each node.
std::vector<std::vector<int64_t>> incoming(const Graph& graph, const std::vector<Ends>& ends) {
  std::vector<std::vector<int64_t>> result(static_cast<size_t>(graph.nodes()));
  for (size_t e = 0; e < ends.size(); ++e) {
    result.at(static_cast<size_t>(ends[e].second)).push_back(static_cast<int64_t>(e));
  }
  return result;
}

Neighbourhood around(const std::vector<std::vector<int64_t>>& into, const std::vector<Ends>& ends,
                     int64_t node, int64_t hops) {
  Neighbourhood result{{node}, {}};
  std::vector<bool> seen(into.size(), false);
  seen[static_cast<size_t>(node)] = true;
  size_t begin = 0;
  for (int64_t hop = 0; hop < hops; ++hop) {
    const size_t end = result.nodes.size();
    for (; begin < end; ++begin) {
      for (const int64_t edge : into[static_cast<size_t>(result.nodes[begin])]) {
        result.edges.push_back(edge);
        const int64_t source = ends[static_cast<size_t>(edge)].first;
        if (seen[static_cast<size_t>(source)]) continue;
        seen[static_cast<size_t>(source)] = true;
        result.nodes.push_back(source);
      }
    }
  }
  std::sort(result.edges.begin(), result.edges.end());
  return result;
}

void check_nodes(const Graph& graph, const std::vector<int64_t>& nodes) {
  require(!nodes.empty(), "nodes", "at least one", "none");
  for (const int64_t node : nodes) {
    require(node >= 0 && node < graph.nodes(), "nodes", fmt::format("in 0..{}", graph.nodes() - 1),
            node);
  }
}

Graph valid(Graph graph) {
  graph.validate();
  return graph;
}

}  // namespace

at::Tensor Graph::degrees() const { return at::bincount(edges[1], {}, nodes()); }

at::Tensor Graph::reverses() const {
  const std::vector<Ends> ends = ends_of(*this);
  std::map<Ends, int64_t> numbers;
  for (size_t e = 0; e < ends.size(); ++e) numbers[ends[e]] = static_cast<int64_t>(e);
  std::vector<int64_t> result;
  for (const auto& [from, to] : ends) {
    const auto found = numbers.find({to, from});
    result.push_back(found == numbers.end() ? -1 : found->second);
  }
  return at::tensor(result, at::kLong);
}

void Graph::validate() const {
  check_shape("graph.features", features, {-1, -1});
  check_finite("graph.features", features);
  require(edges.defined() && edges.dim() == 2 && edges.size(0) == 2, "graph.edges",
          "of shape (2, E)", edges.defined() ? shape_string(edges.sizes()) : "an undefined tensor");
  check_dtype("graph.edges", edges, at::kLong);
  require(edges.is_cpu(), "graph.edges", "on the CPU", edges.device().str());
  require(edges.size(1) >= 1, "graph.edges", "at least one", "none");
  std::map<Ends, size_t> numbers;
  const std::vector<Ends> ends = ends_of(*this);
  for (size_t e = 0; e < ends.size(); ++e) {
    const auto [from, to] = ends[e];
    const auto check = [e, from = from, to = to](bool holds, std::string_view rule) {
      require(holds, "graph.edges", rule, fmt::format("edge {} from {} to {}", e, from, to));
    };
    check(std::min(from, to) >= 0 && std::max(from, to) < nodes(),
          fmt::format("between nodes 0..{}", nodes() - 1));
    check(from != to, "between different nodes (networks add self-loops of their own)");
    check(numbers.emplace(ends[e], e).second, "listed once each");
  }
  if (!labels.defined()) return;
  check_shape("graph.labels", labels, {nodes()});
  check_dtype("graph.labels", labels, at::kLong);
}

Neighbourhood computation_graph(const Graph& graph, int64_t node, int64_t hops) {
  graph.validate();
  check_nodes(graph, {node});
  require(hops >= 1, "hops", ">= 1", hops);
  const std::vector<Ends> ends = ends_of(graph);
  return around(incoming(graph, ends), ends, node, hops);
}

NodeDataset::NodeDataset(Graph graph, std::vector<int64_t> nodes, int64_t hops, bool share)
    : graph_(valid(std::move(graph))), nodes_(std::move(nodes)), share_(share) {
  check_nodes(graph_, nodes_);
  require(hops >= 1, "hops", ">= 1", hops);
  const std::vector<Ends> ends = ends_of(graph_);
  const auto into = incoming(graph_, ends);
  for (const int64_t node : nodes_) {
    neighbourhoods_.push_back(around(into, ends, node, hops));
    require(!neighbourhoods_.back().edges.empty(), "nodes", "reached by at least one edge each",
            node);
  }
  const at::Tensor reverses = graph_.reverses();
  for (int64_t e = 0; e < reverses.size(0); ++e) {
    const int64_t reverse = reverses.data_ptr<int64_t>()[e];
    pairs_.push_back(reverse < 0 ? e : std::min(e, reverse));
  }
}

const Neighbourhood& NodeDataset::neighbourhood(int64_t example) const {
  require(example >= 0 && example < size(), "examples", fmt::format("in 0..{}", size() - 1),
          example);
  return neighbourhoods_[static_cast<size_t>(example)];
}

int64_t NodeDataset::length(int64_t example) const {
  return static_cast<int64_t>(neighbourhood(example).edges.size());
}

at::Tensor NodeDataset::edges(const std::vector<int64_t>& examples) const {
  require(!examples.empty(), "examples", "at least one", "none");
  int64_t longest = 0;
  for (const int64_t example : examples) longest = std::max(longest, length(example));
  const at::Tensor result =
      at::full({static_cast<int64_t>(examples.size()), longest}, -1, at::kLong);
  for (size_t row = 0; row < examples.size(); ++row) {
    const auto& edges = neighbourhood(examples[row]).edges;
    std::copy(edges.begin(), edges.end(), result[static_cast<int64_t>(row)].data_ptr<int64_t>());
  }
  return result;
}

Batch NodeDataset::batch(const std::vector<int64_t>& examples) const {
  const at::Tensor numbers = edges(examples);
  const auto rows = static_cast<int64_t>(examples.size());
  size_t most = 0;
  for (const int64_t example : examples) most = std::max(most, neighbourhood(example).nodes.size());
  const at::Tensor members = at::full({rows, static_cast<int64_t>(most)}, -1, at::kLong);
  // In the batch, nodes and pairs of edges are numbered from 0 in each row.
  const at::Tensor ends = at::zeros({rows, 2, numbers.size(1)}, at::kLong);
  const at::Tensor groups = at::full(numbers.sizes(), -1, at::kLong);
  const auto whole = ends_of(graph_);
  std::vector<int64_t> centres;
  for (int64_t row = 0; row < rows; ++row) {
    const auto& [nodes, edges] = neighbourhood(examples[static_cast<size_t>(row)]);
    std::copy(nodes.begin(), nodes.end(), members[row].data_ptr<int64_t>());
    std::map<int64_t, int64_t> places, pairs;
    for (const int64_t node : nodes) places.emplace(node, places.size());
    int64_t* from = ends[row][0].data_ptr<int64_t>();
    int64_t* to = ends[row][1].data_ptr<int64_t>();
    int64_t* group = groups[row].data_ptr<int64_t>();
    for (const int64_t edge : edges) {
      const auto [source, target] = whole[static_cast<size_t>(edge)];
      *from++ = places.at(source);
      *to++ = places.at(target);
      *group++ = pairs.emplace(pairs_[static_cast<size_t>(edge)], pairs.size()).first->second;
    }
    centres.push_back(nodes.front());
  }
  const at::Tensor padding = members.lt(0), from = members.clamp_min(0);
  Batch batch;
  batch.mask = numbers.ge(0);
  batch.examples = at::tensor(examples, at::kLong);
  batch.inputs = {graph_.features.index({from}).masked_fill(padding.unsqueeze(2), 0), ends,
                  batch.mask, graph_.degrees().index({from}).masked_fill(padding, 0)};
  if (graph_.labels.defined()) {
    batch.labels = graph_.labels.index_select(0, at::tensor(centres, at::kLong));
  }
  if (share_) batch.groups = groups;
  return batch;
}

WholeGraph::WholeGraph(Graph graph, const std::vector<int64_t>& nodes)
    : graph_(valid(std::move(graph))) {
  require(graph_.labels.defined(), "graph.labels", "given", "none");
  check_nodes(graph_, nodes);
  const at::Tensor index = at::tensor(nodes, at::kLong);
  graph_.labels = at::full_like(graph_.labels, kNoLabel)
                      .index_copy(0, index, graph_.labels.index_select(0, index));
}

Batch WholeGraph::batch(const std::vector<int64_t>& examples) const {
  require(examples == std::vector<int64_t>{0}, "examples", "0, the only one",
          fmt::format("{}", fmt::join(examples, ", ")));
  Batch batch;
  batch.mask = at::ones({1, graph_.edges.size(1)}, at::kBool);
  batch.examples = at::zeros({1}, at::kLong);
  batch.labels = graph_.labels.unsqueeze(0);
  batch.inputs = {graph_.features.unsqueeze(0), graph_.edges.unsqueeze(0), batch.mask,
                  graph_.degrees().unsqueeze(0)};
  return batch;
}

}  // namespace diffmask
