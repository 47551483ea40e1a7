#include "program/program_graph.hpp"

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <numeric>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "diffmask/core/error.hpp"
#include "program/tape.hpp"

namespace diffmask {
namespace {

// Not deepcopy() where there are tensors: in LibTorch 1.13 it takes two pieces of one storage for
// the same.
c10::IValue copy(const c10::IValue& value) {
  if (!value.isTensor() && !value.isTuple() && !value.isList()) return value.deepcopy();
  std::unordered_map<const c10::TensorImpl*, at::Tensor> copies;
  return map_tensors(value, [&](const at::Tensor& tensor) {
    at::Tensor& copied = copies[tensor.unsafeGetTensorImpl()];
    if (!copied.defined() && tensor.defined()) copied = tensor.clone();
    return copied;
  });
}

// The operators of one schema argument or return that name a storage: "Tensor(a)", "Tensor(a!)".
std::vector<size_t> aliasing(const std::vector<c10::Argument>& arguments, bool writes_only) {
  std::vector<size_t> result;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const c10::AliasInfo* alias = arguments[i].alias_info();
    if (alias && (alias->isWrite() || !writes_only)) result.push_back(i);
  }
  return result;
}

}  // namespace

std::vector<size_t> written_inputs(const c10::FunctionSchema& schema) {
  return aliasing(schema.arguments(), /*writes_only=*/true);
}

std::vector<size_t> aliased_inputs(const c10::FunctionSchema& schema) {
  if (aliasing(schema.returns(), false).empty()) return {};
  return aliasing(schema.arguments(), /*writes_only=*/false);
}

Call functional_form(const c10::FunctionSchema& schema) {
  const std::string& name = schema.name();
  if (name.size() < 3 || name.back() != '_' || name[name.size() - 2] == '_') return {};
  const auto handle = c10::Dispatcher::singleton().findSchema(
      {name.substr(0, name.size() - 1), schema.overload_name()});
  if (!handle || handle->schema().arguments().size() != schema.arguments().size() ||
      handle->schema().returns().size() != 1 || written_inputs(schema) != std::vector<size_t>{0}) {
    return {};
  }
  return [op = *handle](Stack& stack) {
    const auto self = stack[0].toTensor();
    op.callBoxed(&stack);
    const at::Tensor result = stack.back().toTensor();
    if (result.scalar_type() != self.scalar_type() || result.sizes() != self.sizes()) {
      stack.back() = result.to(self.scalar_type()).expand_as(self);
    }
  };
}

namespace {

std::vector<size_t> all_of(const std::vector<Slot>& slots) {
  std::vector<size_t> numbers(slots.size());
  std::iota(numbers.begin(), numbers.end(), 0);
  return numbers;
}

}  // namespace

void Step::run(Stack& stack) const {
  try {
    call(stack);
    require(stack.size() == outputs.size(), "outputs", fmt::format("{}", outputs.size()),
            stack.size());
  } catch (const c10::Error& error) {
    throw Error(fmt::format("{}: {}", name, error.what_without_backtrace()));
  } catch (const std::exception& error) {
    throw Error(fmt::format("{}: {}", name, error.what()));
  }
}

void ProgramGraph::check(const Inputs& given) const {
  require(given.size() == inputs.size(), "inputs",
          fmt::format("{} ({})", inputs.size(), fmt::join(input_names, ", ")), given.size());
  if (check_inputs) check_inputs(given);
}

c10::IValue evaluate(const ProgramGraph& graph, const Stack& inputs) {
  Stack values = graph.constants, stack;
  for (size_t i = 0; i < inputs.size(); ++i) values[graph.inputs.at(i)] = inputs[i];
  for (const Step& step : graph.steps) {
    for (const Slot slot : step.inputs) stack.push_back(values[slot]);
    step.run(stack);
    for (size_t output = step.outputs.size(); output-- > 0;) {
      values[step.outputs[output]] = std::move(stack.back());
      stack.pop_back();
    }
  }
  return values[graph.output];
}

// Makes every slot be written once. Slots that may share storage form a set. A step that writes
// into a set becomes
//   - its functional form, where nobody reads another member of the set afterwards, or
//   - a step that copies what the set's views are taken of, takes these views again, writes into
//     the copy, and gives new values of all members that are read afterwards.
// Later readers get the new values.
class ProgramBuilder::Functionaliser {
 public:
  Functionaliser(std::vector<RawStep> raw, ProgramGraph& graph, Slot output)
      : raw_(std::move(raw)), graph_(graph) {
    const size_t slots = graph_.known.size();
    set_.resize(slots);
    std::iota(set_.begin(), set_.end(), 0);
    now_ = set_;
    last_read_.assign(slots, -1);
    readers_.assign(slots, 0);
    made_by_.assign(slots, -1);
    output_ = output;
  }

  void operator()() {
    number();
    for (size_t i = 0; i < raw_.size(); ++i) {
      RawStep& raw = raw_[i];
      if (raw.writes.empty()) {
        emit(raw.step, raw.step.call, current(raw.step.inputs), raw.step.outputs);
        unite(raw);
      } else if (raw.functional && raw.writes.size() == 1 && others(i, raw).empty()) {
        write_functionally(raw);
      } else {
        write_into_copy(i, raw);
      }
    }
    graph_.output = now_[output_];
  }

 private:
  static constexpr int64_t kEnd = std::numeric_limits<int64_t>::max();

  Slot find(Slot slot) {
    while (set_[slot] != slot) slot = set_[slot] = set_[set_[slot]];
    return slot;
  }

  // An in-place operator gives back what it wrote into: one slot stands for both.
  void number() {
    std::vector<Slot> same(set_.size());
    std::iota(same.begin(), same.end(), 0);
    for (size_t i = 0; i < raw_.size(); ++i) {
      RawStep& raw = raw_[i];
      for (Slot& slot : raw.step.inputs) {
        slot = same[slot];
        last_read_[slot] = static_cast<int64_t>(i);
        ++readers_[slot];
      }
      if (!raw.writes.empty()) {
        if (!raw.aliases.empty() && raw.step.outputs.size() == 1) {
          same[raw.step.outputs[0]] = raw.step.inputs[raw.writes[0]];
        }
        continue;
      }
      for (const Slot output : raw.step.outputs) made_by_[output] = static_cast<int64_t>(i);
    }
    output_ = same[output_];
    last_read_[output_] = kEnd;
    ++readers_[output_];
    for (auto& site : graph_.sites) site.slot = same[site.slot];
  }

  // From this step on; what wrote into its inputs before is no concern of its outputs.
  void unite(const RawStep& raw) {
    if (unpacks_pieces(raw)) return;
    for (const Slot output : raw.step.outputs) {
      for (const size_t input : raw.aliases) set_[find(output)] = find(raw.step.inputs[input]);
    }
  }

  // What unsafe_chunk and its like cut a tensor into is promised to be tensors of their own:
  // LibTorch's cells write into one gate's piece while they still read the others'. Who else reads
  // the list has the pieces, too.
  bool unpacks_pieces(const RawStep& raw) const {
    if (raw.step.operation != kUnpack || readers_[raw.step.inputs[0]] > 1) return false;
    const int64_t maker = made_by_[raw.step.inputs[0]];
    return maker >= 0 && raw_[maker].step.operation.starts_with("aten::unsafe_");
  }

  std::vector<Slot> current(std::vector<Slot> slots) const {
    for (Slot& slot : slots) slot = now_[slot];
    return slots;
  }

  void emit(const Step& source, Call call, std::vector<Slot> inputs, std::vector<Slot> outputs) {
    graph_.steps.push_back({source.name, std::move(call), std::move(inputs), std::move(outputs),
                            source.operation, source.module});
  }

  Slot fresh(Slot of) {
    graph_.constants.emplace_back();
    graph_.known.push_back(false);
    return now_[of] = static_cast<Slot>(graph_.known.size()) - 1;
  }

  // The other members of the sets that a step writes into which are read after it.
  std::vector<Slot> others(size_t i, const RawStep& raw) {
    std::set<Slot> written;
    for (const size_t input : raw.writes) written.insert(raw.step.inputs[input]);
    std::set<Slot> sets;
    for (const Slot slot : written) sets.insert(find(slot));
    std::vector<Slot> result;
    for (size_t slot = 0; slot < last_read_.size(); ++slot) {
      const auto s = static_cast<Slot>(slot);
      if (last_read_[slot] > static_cast<int64_t>(i) && made_by_[slot] < static_cast<int64_t>(i) &&
          !written.contains(s) && sets.contains(find(s))) {
        result.push_back(s);
      }
    }
    return result;
  }

  void write_functionally(const RawStep& raw) {
    const Slot written = raw.step.inputs[raw.writes[0]];
    const std::vector<Slot> inputs = current(raw.step.inputs);
    made_by_[written] = -1;  // from here on it is a value of its own, a view of nothing
    emit(raw.step, raw.functional, inputs, {fresh(written)});
    graph_.steps.back().operation.pop_back();  // of its "_"
  }

  void write_into_copy(size_t i, const RawStep& raw) {
    // Members to take anew: the written ones, those read later, and what they are views of.
    std::vector<Slot> members = others(i, raw);
    for (const size_t input : raw.writes) members.push_back(raw.step.inputs[input]);
    std::set<Slot> roots;
    std::set<int64_t> views;
    const std::vector<Slot> readers = members;
    for (size_t m = 0; m < members.size(); ++m) {
      const int64_t maker = made_by_[members[m]];
      if (maker < 0 || raw_[maker].aliases.empty() || stays_site(members[m], readers)) {
        roots.insert(members[m]);
      } else if (views.insert(maker).second) {
        for (const size_t input : raw_[maker].aliases) {
          members.push_back(raw_[maker].step.inputs[input]);
        }
      }
    }
    // The step's own little program, over places of its own.
    struct Part {
      Call call;
      std::vector<size_t> inputs, outputs;
    };
    std::vector<Part> parts;
    std::vector<Slot> outside;
    std::unordered_map<Slot, size_t> place;
    const auto place_of = [&](Slot slot) {
      if (const auto found = place.find(slot); found != place.end()) return found->second;
      outside.push_back(now_[slot]);
      return place[slot] = outside.size() - 1;
    };
    const auto places_of = [&](const std::vector<Slot>& slots) {
      std::vector<size_t> places;
      for (const Slot slot : slots) places.push_back(place_of(slot));
      return places;
    };
    for (const Slot root : roots) place_of(root);
    const size_t copied = outside.size();
    for (const int64_t view : views) places_of(outer_inputs(raw_[view], views));
    places_of(outer_inputs(raw, views));
    size_t count = outside.size();
    for (const int64_t view : views) {
      Part part{raw_[view].step.call, places_of(raw_[view].step.inputs), {}};
      for (const Slot output : raw_[view].step.outputs)
        part.outputs.push_back(place[output] = count++);
      parts.push_back(std::move(part));
    }
    Part writing{raw.step.call, places_of(raw.step.inputs), {}};
    for (const Slot output : raw.step.outputs) writing.outputs.push_back(place[output] = count++);
    parts.push_back(std::move(writing));

    std::vector<size_t> results;
    std::vector<Slot> outputs;
    for (const Slot member : std::set<Slot>(members.begin(), members.end())) {
      results.push_back(place.at(member));
      outputs.push_back(fresh(member));
    }
    if (raw.aliases.empty() || raw.step.outputs.size() != 1) {
      for (const Slot output : raw.step.outputs) {
        results.push_back(place.at(output));
        outputs.push_back(output);
      }
    }
    emit(
        raw.step,
        [parts = std::move(parts), results = std::move(results), copied, count](Stack& stack) {
          Stack values = std::move(stack);
          values.resize(count);
          for (size_t root = 0; root < copied; ++root) values[root] = copy(values[root]);
          for (const Part& part : parts) {
            stack.clear();
            for (const size_t input : part.inputs) stack.push_back(values[input]);
            part.call(stack);
            for (size_t output = part.outputs.size(); output-- > 0;) {
              values[part.outputs[output]] = std::move(stack.back());
              stack.pop_back();
            }
          }
          stack.clear();
          for (const size_t result : results) stack.push_back(values[result]);
        },
        std::move(outside), std::move(outputs));
  }

  // What is behind a site may have been replaced, so it is copied from there. But where somebody
  // will still read what the site was made from, the write has to reach that too: a replaced state
  // could not, and so this is no site.
  bool stays_site(Slot slot, const std::vector<Slot>& read_later) {
    const auto site = std::find_if(graph_.sites.begin(), graph_.sites.end(),
                                   [&](const auto& s) { return s.slot == slot; });
    if (site == graph_.sites.end()) return false;
    const std::set<Slot> before = view_of(raw_[made_by_[slot]].step.inputs, slot);
    for (const Slot other : view_of(read_later, slot)) {
      if (!before.contains(other)) continue;
      graph_.sites.erase(site);
      return false;
    }
    return true;
  }

  // These slots and all that they may be views of, not looking behind `end`.
  std::set<Slot> view_of(std::vector<Slot> slots, Slot end) const {
    std::set<Slot> all;
    while (!slots.empty()) {
      const Slot slot = slots.back();
      slots.pop_back();
      if (!all.insert(slot).second || slot == end || made_by_[slot] < 0) continue;
      const RawStep& maker = raw_[made_by_[slot]];
      for (const size_t input : maker.aliases) slots.push_back(maker.step.inputs[input]);
    }
    return all;
  }

  // A step's inputs that the views taken anew do not give.
  std::vector<Slot> outer_inputs(const RawStep& raw, const std::set<int64_t>& views) const {
    std::vector<Slot> result;
    for (const Slot slot : raw.step.inputs) {
      if (!views.contains(made_by_[slot])) result.push_back(slot);
    }
    return result;
  }

  std::vector<RawStep> raw_;
  ProgramGraph& graph_;
  Slot output_;
  std::vector<Slot> set_;           // union-find: which slots may share storage
  std::vector<Slot> now_;           // the slot that holds a raw slot's value at this point
  std::vector<int64_t> last_read_;  // by the raw step of this number, -1: never
  std::vector<int64_t> readers_;    // how many raw steps, and the output
  std::vector<int64_t> made_by_;    // the raw step of this number, -1: a constant or an input
};

Slot ProgramBuilder::fresh() {
  graph_.constants.emplace_back();
  graph_.known.push_back(false);
  return static_cast<Slot>(graph_.known.size()) - 1;
}

Slot ProgramBuilder::constant(c10::IValue value) {
  const Slot slot = fresh();
  graph_.constants.back() = std::move(value);
  graph_.known.back() = true;
  return slot;
}

Slot ProgramBuilder::input(std::string name) {
  graph_.input_names.push_back(std::move(name));
  graph_.inputs.push_back(fresh());
  return graph_.inputs.back();
}

void ProgramBuilder::own(const std::string& name, const at::Tensor& tensor) {
  graph_.tensors.emplace(name, tensor);
}

std::string ProgramBuilder::enter(std::string module) {
  return std::exchange(module_, std::move(module));
}

std::vector<Slot> ProgramBuilder::add(RawStep raw, size_t outputs) {
  raw.step.module = module_;
  for (size_t i = 0; i < outputs; ++i) raw.step.outputs.push_back(fresh());
  const std::vector<Slot> slots = raw.step.outputs;
  raw_.push_back(std::move(raw));
  return slots;
}

Slot ProgramBuilder::compute(std::string name, Call call, std::vector<Slot> inputs,
                             std::string operation) {
  return add(
      {{std::move(name), std::move(call), std::move(inputs), {}, std::move(operation)}, {}, {}, {}},
      1)[0];
}

Slot ProgramBuilder::construct(const c10::TypePtr& type, std::vector<Slot> elements) {
  Call call;
  if (type->kind() == c10::TypeKind::TupleType) {
    call = [](Stack& stack) {
      auto tuple = c10::ivalue::Tuple::create(std::vector<c10::IValue>(stack));
      stack.assign(1, std::move(tuple));
    };
  } else if (type->kind() == c10::TypeKind::ListType) {
    call = [element = type->containedType(0)](Stack& stack) {
      c10::impl::GenericList list(element);
      for (c10::IValue& value : stack) list.push_back(std::move(value));
      stack.assign(1, std::move(list));
    };
  } else {
    call = [key = type->containedType(0), value = type->containedType(1)](Stack& stack) {
      c10::impl::GenericDict dict(key, value);
      for (size_t i = 0; i < stack.size(); i += 2) dict.insert_or_assign(stack[i], stack[i + 1]);
      stack.assign(1, std::move(dict));
    };
  }
  const auto aliases = all_of(elements);
  return add({{kConstruct, std::move(call), std::move(elements), {}, kConstruct}, {}, aliases, {}},
             1)[0];
}

std::vector<Slot> ProgramBuilder::unpack(Slot container, size_t count) {
  const Call call = [count](Stack& stack) {
    const c10::IValue value = std::move(stack.back());
    stack.pop_back();
    if (value.isTuple()) {
      for (const auto& element : value.toTuple()->elements()) stack.push_back(element);
    } else {
      for (const c10::IValue& element : value.toListRef()) stack.push_back(element);
    }
    require(stack.size() == count, "a list's or tuple's size", fmt::format("{}", count),
            stack.size());
  };
  return add({{kUnpack, call, {container}, {}, kUnpack}, {}, {0}, {}}, count);
}

std::string ProgramBuilder::numbered(const std::string& name) {
  const int64_t call = calls_[name]++;
  return call == 0 ? name : fmt::format("{}#{}", name, call);
}

Slot ProgramBuilder::site(const std::string& name, const std::string& type, Slot slot) {
  const Slot own = add({{name, [](Stack&) {}, {slot}, {}, kSite}, {}, {0}, {}}, 1)[0];
  graph_.sites.push_back({name, type, own});
  return own;
}

std::unique_ptr<ProgramGraph> ProgramBuilder::finish(Slot output) {
  Functionaliser(std::move(raw_), graph_, output)();
  return std::make_unique<ProgramGraph>(std::move(graph_));
}

}  // namespace diffmask
