#include "attribution/propagation/deeplift_walk.hpp"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "diffmask/core/error.hpp"

namespace diffmask {
namespace {

std::ptrdiff_t count(const std::vector<at::Tensor>& tensors) {
  return static_cast<std::ptrdiff_t>(tensors.size());
}

bool is_same(const at::Tensor& a, const at::Tensor& b) {
  return !a.is_quantized() && a.sizes() == b.sizes() && a.equal(b);
}

Difference without_nan(const Difference& d) {
  std::vector<at::Tensor> references, outputs;
  for (const at::Tensor& t : d.references) references.push_back(diffmask::without_nan(t));
  for (const at::Tensor& t : d.operation.at(references).outputs) {
    outputs.push_back(diffmask::without_nan(t.detach()));
  }
  Stack inputs;
  for (const c10::IValue& input : d.reference_inputs) {
    inputs.push_back(map_tensors(input, [](const at::Tensor& tensor) {
      const bool real = tensor.defined() && at::isFloatingType(tensor.scalar_type());
      return real ? diffmask::without_nan(tensor) : tensor;
    }));
  }
  return {diffmask::without_nan(d.operation), std::move(inputs), std::move(references),
          std::move(outputs)};
}

std::vector<at::Tensor> checked(const Difference& d, const std::vector<at::Tensor>& given,
                                Products products) {
  const bool unread = has_nan(d.operation.varying) || has_nan(d.references) ||
                      has_nan(d.operation.outputs) || has_nan(d.output_references);
  std::vector<at::Tensor> amounts =
      diffmask::multipliers(unread ? without_nan(d) : d, given, products);
  for (at::Tensor& amount : amounts) {
    if (amount.sizes() == given[0].sizes()) {
      amount = amount.masked_fill(given[0].eq(0).logical_and(amount.isfinite().logical_not()), 0);
    }
  }
  return amounts;
}

// What is selected by a condition may be of another size at the reference.
void require_one_shape(const Difference& d) {
  const auto same = [](const std::vector<at::Tensor>& a, const std::vector<at::Tensor>& b) {
    return std::equal(
        a.begin(), a.end(), b.begin(), b.end(),
        [](const at::Tensor& x, const at::Tensor& y) { return x.sizes() == y.sizes(); });
  };
  if (same(d.operation.varying, d.references) && same(d.operation.outputs, d.output_references) &&
      same(d.operation.deciding, d.deciding_references) &&
      same(d.operation.decided, d.decided_references)) {
    return;
  }
  throw Error(
      fmt::format("DeepLIFT has no rule for {}, of which tensors have other shapes for "
                  "the reference",
                  described(d.operation.step)));
}

// x[c]: c a condition of x's shape.
bool selects(const Operation& operation) {
  const std::string& name = operation.step.operation;
  if (name == "aten::masked_select" || name == "aten::masked_scatter") return true;
  if (!name.starts_with("aten::index")) return false;
  std::vector<at::Tensor> indices;
  append_tensors(operation.inputs.at(1), indices);
  return indices.size() == 1 && indices[0].defined() && indices[0].scalar_type() == at::kBool;
}

}  // namespace

DeepLiftWalk::DeepLiftWalk(const ProgramPass& pass, size_t depth, const std::string& name,
                           const at::Tensor& reference, const DeepLiftTable& table)
    : tape_(pass.tape()),
      table_(table),
      site_(pass.slots()[depth]),
      name_(name),
      references_(tape_.resume(site_, reference)) {}

at::Tensor DeepLiftWalk::output() const {
  const c10::IValue& output = references_[static_cast<size_t>(tape_.output_slot())];
  return output.isTensor() ? output.toTensor() : at::Tensor();
}

at::Tensor DeepLiftWalk::multipliers(const at::Tensor& seed, DeepLiftOptions::Activation activation,
                                     Products products) const {
  const at::Tensor m = walk(seed, activation, products, /*checks=*/false);
  if (!m.defined() || m.isfinite().all().item<bool>()) return m;
  return walk(seed, activation, products, /*checks=*/true);
}

// With checks, NaN that nobody reads counts as 0, and what is not finite is an error.
at::Tensor DeepLiftWalk::walk(const at::Tensor& seed, DeepLiftOptions::Activation activation,
                              Products products, bool checks) const {
  const auto rule = [&](const Operation& operation, const std::vector<at::Tensor>& given) {
    auto shares = this->shares(operation, given, activation, products, checks);
    for (const Tape::Share& share : shares) {
      const at::Tensor& amount = share.amount;
      if (!checks || !amount.defined() || amount.isfinite().all().item<bool>()) continue;
      throw Error(
          fmt::format("DeepLIFT: the multipliers are not finite at {} (on the way to site '{}')",
                      described(operation.step), name_));
    }
    return shares;
  };
  return tape_.walk(seed, {site_}, changes(), rule)[0];
}

std::vector<Tape::Share> DeepLiftWalk::shares(const Operation& operation,
                                              const std::vector<at::Tensor>& given,
                                              DeepLiftOptions::Activation activation,
                                              Products products, bool checks) const {
  Difference d = difference(operation);
  const DeepLiftEntry* entry = table_(operation);
  const bool asked = std::any_of(given.begin() + count(operation.outputs), given.end(),
                                 [](const at::Tensor& g) { return g.ne(0).any().item<bool>(); });
  if (!asked) {
    d.operation.decided.clear();
    d.decided_references.clear();
  }
  const bool decides = !d.operation.deciding.empty() || !d.operation.decided.empty();
  const bool reveals = activation == DeepLiftOptions::Activation::reveal_cancel && !decides &&
                       kind_of(operation) == OperatorKind::elementwise &&
                       operation.varying.size() == 1;
  if (!entry && reveals) {
    if (const auto share = reveal(d, given[0])) return {*share};
  }
  std::vector<at::Tensor> to = d.operation.varying, amounts;
  const std::vector<at::Tensor> of_outputs(given.begin(), given.begin() + count(operation.outputs));
  if (!decides && of_outputs.empty()) return {};
  if (entry) {
    amounts = by_user(*entry, d, of_outputs);
  } else if (decides) {
    if (const auto share = through_selection(d, given[0])) return {*share};
    to.insert(to.end(), d.operation.deciding.begin(), d.operation.deciding.end());
    amounts = deciding_multipliers(d, given, products);
  } else {
    require_one_shape(d);
    has_product_ = has_product_ || diffmask::has_product(operation);
    amounts =
        checks ? checked(d, of_outputs, products) : diffmask::multipliers(d, of_outputs, products);
  }
  std::vector<Tape::Share> shares;
  for (size_t i = 0; i < amounts.size(); ++i) shares.push_back({to[i], amounts[i]});
  return shares;
}

Tape::Filter DeepLiftWalk::changes() const {
  return [this](Slot slot) { return !references_[static_cast<size_t>(slot)].isNone(); };
}

const c10::IValue& DeepLiftWalk::reference(Slot slot) const {
  const c10::IValue& changed = references_[static_cast<size_t>(slot)];
  return changed.isNone() ? tape_.value(slot) : changed;
}

Difference DeepLiftWalk::difference(const Operation& operation) const {
  Difference d{operation, {}, {}, {}};
  d.operation.deciding.clear();
  d.operation.decided.clear();
  std::vector<at::Tensor> here, there, made, made_there;
  for (const Slot slot : operation.step.inputs) {
    d.reference_inputs.push_back(reference(slot));
    append_tensors(tape_.value(slot), here);
    append_tensors(reference(slot), there);
  }
  const auto reference_of = [&](const at::Tensor& tensor) {
    const auto at = std::find_if(here.begin(), here.end(),
                                 [&](const at::Tensor& t) { return t.is_same(tensor); });
    return there.at(static_cast<size_t>(at - here.begin())).detach();
  };
  for (const at::Tensor& varying : operation.varying) {
    d.references.push_back(reference_of(varying));
  }
  for (const at::Tensor& deciding : operation.deciding) {
    const at::Tensor other = reference_of(deciding);
    if (is_same(deciding, other)) continue;
    d.operation.deciding.push_back(deciding);
    d.deciding_references.push_back(other);
  }
  for (const Slot slot : operation.step.outputs) {
    append_tensors(tape_.value(slot), made);
    append_tensors(reference(slot), made_there);
  }
  bool decides = false;
  for (size_t k = 0; k < operation.read.size(); ++k) {
    const at::Tensor& leaf = operation.read[k];
    const auto at = std::find_if(made.begin(), made.end(),
                                 [&](const at::Tensor& t) { return t.is_same(leaf); });
    const at::Tensor other = made_there.at(static_cast<size_t>(at - made.begin()));
    const bool has_gradient = k < operation.outputs.size();
    (has_gradient ? d.output_references : d.decided_references).push_back(other);
    decides = decides || (!has_gradient && !is_same(leaf, other));
  }
  if (decides) {
    d.operation.decided = operation.decided;
  } else {
    d.decided_references.clear();
  }
  return d;
}

std::vector<at::Tensor> DeepLiftWalk::by_user(const DeepLiftEntry& entry, const Difference& d,
                                              const std::vector<at::Tensor>& given) const {
  OperatorCall call = call_of(d.operation, given);
  call.reference_inputs = d.references;
  call.reference_outputs = d.output_references;
  return apply(entry.rule, entry.operators, call);
}

// The share of u where x = w u + b, with nothing but moves between; empty otherwise, and where
// the user has a rule for one of these.
std::optional<Tape::Share> DeepLiftWalk::reveal(const Difference& d,
                                                const at::Tensor& given) const {
  std::vector<Operation> moves;
  at::Tensor tensor = d.operation.varying[0];
  const at::Tensor& site = tape_.value(site_).toTensor();
  while (!tensor.is_same(site)) {
    const auto maker = tape_.maker(tensor, changes());
    if (!maker || maker->varying.size() != 1 || maker->repeated || maker->outputs.size() != 1 ||
        table_(*maker)) {
      break;
    }
    if (Affine::of(*maker)) {
      const std::vector<Operation> upward(moves.rbegin(), moves.rend());
      return Tape::Share{maker->varying[0], reveal_cancel(difference(*maker), upward, d, given)};
    }
    if (kind_of(*maker) != OperatorKind::move) break;
    tensor = maker->varying[0];
    moves.push_back(*maker);
  }
  return {};
}

struct DeepLiftWalk::Source {
  at::Tensor tensor, reference;
};

// The inputs that are not the same for the reference.
std::vector<DeepLiftWalk::Source> DeepLiftWalk::changing(const Difference& d) {
  std::vector<Source> result;
  const auto add = [&](const std::vector<at::Tensor>& tensors,
                       const std::vector<at::Tensor>& references) {
    for (size_t i = 0; i < tensors.size(); ++i) {
      if (!is_same(tensors[i], references[i])) result.push_back({tensors[i], references[i]});
    }
  };
  add(d.operation.varying, d.references);
  add(d.operation.deciding, d.deciding_references);
  return result;
}

// y = f(u) elementwise, of operators some of which hold only the elements that fit a condition,
// as x[x < 0] = 0.1 x[x < 0]: Rescale over all of it. Empty for any other.
std::optional<Tape::Share> DeepLiftWalk::through_selection(const Difference& d,
                                                           const at::Tensor& given) const {
  const Operation& last = d.operation;
  if (last.outputs.size() != 1 || !last.decided.empty() || last.deciding.empty() ||
      !selects(last) || is_elementwise(last, last.varying, last.outputs[0])) {
    require_one_shape(d);
    return {};
  }
  std::vector<Source> front = changing(d);
  const auto found = [&] {
    return front.size() == 1 && front[0].tensor.requires_grad() &&
           front[0].tensor.sizes() == last.outputs[0].sizes();
  };
  while (!found() && step_back(front)) {
  }
  if (!found()) {
    require_one_shape(d);
    return {};
  }
  const at::Tensor du = front[0].tensor.detach() - front[0].reference;
  return Tape::Share{front[0].tensor, given * d.output_delta() / du.masked_fill(du == 0, 1)};
}

// Puts what the latest of these tensors is made of in its place; false where it is not made
// element by element.
bool DeepLiftWalk::step_back(std::vector<Source>& front) const {
  std::optional<size_t> taken;
  const Step* latest = nullptr;
  for (size_t i = 0; i < front.size(); ++i) {
    const auto maker = tape_.maker(front[i].tensor, changes());
    if (!maker || (latest && std::less<>()(&maker->step, latest))) continue;
    latest = &maker->step;
    taken = i;
  }
  if (!taken) return false;
  const Difference d = difference(*tape_.maker(front[*taken].tensor, changes()));
  const std::vector<Source> before = changing(d);
  std::vector<at::Tensor> tensors;
  for (const Source& source : before) tensors.push_back(source.tensor);
  const bool by_element =
      selects(d.operation) || is_elementwise(d.operation, tensors, front[*taken].tensor);
  if (before.empty() || !by_element) return false;
  front.erase(front.begin() + static_cast<std::ptrdiff_t>(*taken));
  for (const Source& source : before) {
    const bool known = std::any_of(front.begin(), front.end(), [&](const Source& other) {
      return other.tensor.is_same(source.tensor);
    });
    if (!known) front.push_back(source);
  }
  return true;
}

}  // namespace diffmask
