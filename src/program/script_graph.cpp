#include "program/script_graph.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <torch/csrc/jit/api/function_impl.h>
#include <torch/csrc/jit/runtime/operator.h>
#include <torch/script.h>

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <unordered_map>
#include <utility>
#include <vector>

#include "diffmask/core/error.hpp"
#include "diffmask/core/libtorch.hpp"
#include "program/script_containers.hpp"
#include "program/script_inputs.hpp"
#include "program/script_interpreted.hpp"

namespace diffmask {
namespace {

namespace jit = torch::jit;
namespace prim = c10::prim;

// "__torch__.transformers.models.bert.___torch_mangle_3.BertLayer" -> "BertLayer".
std::string short_type(const c10::ivalue::Object& object) {
  const std::string name = object.name();
  return name.substr(name.rfind('.') + 1);
}

class ScriptLowering {
 public:
  /// Constants move to `device`, if there is one; those of a trace of this process stay.
  ScriptLowering(ProgramBuilder& builder, const ProgramOptions& options,
                 std::optional<c10::Device> device, bool evaluated)
      : builder_(builder),
        options_(options),
        device_(device),
        evaluated_(evaluated),
        containers_(builder),
        inputs_(builder, containers_, options.given) {}

  Slot operator()(const jit::Module& module) {
    const auto method = module.find_method(options_.method);
    if (!method) {
      std::vector<std::string> names;
      for (const jit::Method& other : module.get_methods()) names.push_back(other.name());
      throw ArgumentError("method", "one of the model's", with_nearest(options_.method, names));
    }
    jit::Graph& graph = *jit::toGraphFunction(method->function()).graph();
    std::vector<Slot> slots = {object(module._ivalue(), "")};
    for (const Slot slot : inputs_(method->function().getSchema(), graph)) slots.push_back(slot);
    const Slot result = run(graph, slots);
    if (!missing_.empty()) {
      throw Error(fmt::format("this LibTorch ({}) has no operator {}", TORCH_VERSION,
                              fmt::join(missing_, ", ")));
    }
    return chosen_output(result);
  }

  // Each step belongs to the site that comes next.
  Slot trace(jit::Graph& graph, const std::vector<Slot>& arguments) {
    std::vector<std::string> names;
    for (const jit::Node* node : graph.nodes()) {
      if (node->kind() == traced_site()) names.push_back(node->s(c10::attr::name));
    }
    Env env;
    for (size_t i = 0; i < arguments.size(); ++i) env[graph.inputs()[i]] = arguments[i];
    auto next = names.begin();
    builder_.enter(next == names.end() ? "" : *next);
    for (jit::Node* node : graph.nodes()) {
      lower(*node, env);
      if (node->kind() == traced_site()) builder_.enter(++next == names.end() ? "" : *next);
    }
    return env.at(graph.outputs()[0]);
  }

 private:
  using Env = ScriptSlots;

  Slot object(c10::IValue value, const std::string& path) {
    const Slot slot = builder_.constant(std::move(value));
    paths_[slot] = path;
    return slot;
  }

  Slot run(jit::Graph& graph, const std::vector<Slot>& arguments) {
    Env env;
    for (size_t i = 0; i < arguments.size(); ++i) env[graph.inputs()[i]] = arguments[i];
    lower(*graph.block(), env);
    const auto outputs = graph.outputs();
    require(outputs.size() == 1, "a function's outputs", "one value", outputs.size());
    return env.at(outputs[0]);
  }

  void lower(jit::Block& block, Env& env) {
    for (jit::Node* node : block.nodes()) lower(*node, env);
  }

  void lower(jit::Node& node, Env& env) {
    const auto kind = node.kind();
    if (kind == prim::Constant) {
      if (node.output()->type()->kind() == c10::TypeKind::FunctionType) return;
      const auto value = jit::toIValue(node.output());
      env[node.output()] = builder_.constant(moved(value ? *value : c10::IValue(), device_));
    } else if (device_ && is_named(kind, "aten::device")) {
      env[node.output()] = builder_.constant(*device_);
    } else if (device_ && is_named(kind, "aten::cuda")) {
      const Call move = [to = *device_](Stack& stack) { stack = {stack[0].toTensor().to(to)}; };
      env[node.output()] = builder_.add(
          {{"aten::to", move, {env.at(node.input(0))}, {}, "aten::to"}, {}, {0}, {}}, 1)[0];
    } else if (kind == prim::fork) {
      // What runs side by side gives what it gives one after another.
      std::vector<Slot> arguments;
      for (const jit::Value* input : node.inputs()) arguments.push_back(env.at(input));
      env[node.output()] = run(*node.g(c10::attr::Subgraph), arguments);
    } else if (is_named(kind, "aten::wait")) {
      env[node.output()] = env.at(node.input());
    } else if (kind == prim::GetAttr && is_object(env.at(node.input()))) {
      env[node.output()] = attribute(env.at(node.input()), node.s(c10::attr::name));
    } else if (kind == prim::SetAttr && is_object(env.at(node.input(0)))) {
      const auto& owner = builder_.value(env.at(node.input(0)));
      attributes_[{owner.toObject().get(), node.s(c10::attr::name)}] = env.at(node.input(1));
    } else if (kind == prim::CallMethod && is_object(env.at(node.input(0)))) {
      env[node.output()] = call_method(node, env);
    } else if (kind == prim::CallFunction) {
      auto& function = *node.input(0)->type()->expectRef<c10::FunctionType>().function();
      std::vector<Slot> arguments;
      for (size_t i = 1; i < node.inputs().size(); ++i) arguments.push_back(env.at(node.input(i)));
      env[node.output()] = run(*jit::toGraphFunction(function).graph(), arguments);
    } else if (kind == prim::If && is_known(env.at(node.input()))) {
      const bool taken = builder_.value(env.at(node.input())).toBool();
      jit::Block& block = *node.blocks().at(taken ? 0 : 1);
      lower(block, env);
      for (size_t i = 0; i < node.outputs().size(); ++i) {
        env[node.outputs()[i]] = env.at(block.outputs()[i]);
      }
    } else if (kind == traced_site()) {
      env[node.output()] = builder_.site(node.s(c10::attr::name), "", env.at(node.input()));
    } else if (kind == prim::unchecked_cast) {
      env[node.output()] = env.at(node.input());
    } else if (kind == prim::RaiseException || kind == prim::Print) {
      // A pass computes what its output needs: a check alone is not run.
    } else if (kind == prim::TupleUnpack || kind == prim::ListUnpack) {
      unpack(node, env);
    } else if (node.blocks().empty() && node.maybeOperator()) {
      operate(node, env);
    } else if (node.blocks().empty() && kind.is_aten()) {
      missing_.insert(node.kind().toQualString());
      for (const jit::Value* output : node.outputs()) env[output] = builder_.constant({});
    } else {
      construct_or_interpret(node, env);
    }
  }

  static bool is_named(c10::Symbol kind, const char* name) {
    return kind == c10::Symbol::fromQualString(name);
  }

  bool is_known(Slot slot) const { return builder_.is_constant(slot); }
  bool is_object(Slot slot) const { return is_known(slot) && builder_.value(slot).isObject(); }

  Slot attribute(Slot owner, const std::string& name) {
    const auto object = builder_.value(owner).toObject();
    if (const auto set = attributes_.find({object.get(), name}); set != attributes_.end()) {
      return set->second;
    }
    const std::string path = paths_[owner].empty() ? name : paths_[owner] + "." + name;
    const c10::IValue value =
        evaluated_ && name == "training" ? c10::IValue(false) : object->getAttr(name);
    const bool is_tensor = value.isTensor() && value.toTensor().defined();
    const Slot slot = this->object(is_tensor ? value.toTensor().detach() : value, path);
    if (is_tensor) builder_.mark_stored(slot, path);
    if (!value.isObject()) attributes_[{object.get(), name}] = slot;
    return slot;
  }

  Slot call_method(const jit::Node& node, const Env& env) {
    std::vector<Slot> arguments;
    for (const jit::Value* input : node.inputs()) arguments.push_back(env.at(input));
    const auto object = builder_.value(arguments[0]).toObject();
    const std::string &method = node.s(c10::attr::name), path = paths_[arguments[0]];
    auto& graph = *jit::toGraphFunction(object->type()->getMethod(method)).graph();
    // A trace calls a module's second use "forward1", an overload "forward__0".
    const bool is_module =
        object->type()->is_module() && method.rfind("forward", 0) == 0 && !path.empty();
    if (!is_module) return run(graph, arguments);
    const std::string name = builder_.numbered(path), type = short_type(*object);
    if (options_.module_inputs) {
      std::vector<size_t> tensors;
      for (size_t i = 1; i < arguments.size(); ++i) {
        if (is_tensor(*node.input(i)->type()) && !is_known(arguments[i])) tensors.push_back(i);
      }
      for (size_t i = 0; i < tensors.size(); ++i) {
        const std::string leaf = tensors.size() == 1 ? "" : fmt::format("[{}]", i);
        Slot& argument = arguments[tensors[i]];
        argument = builder_.site(name + ":input" + leaf, type, argument);
      }
    }
    const std::string outer = builder_.enter(name);
    const Slot result = run(graph, arguments);
    builder_.enter(outer);
    return sites(name, type, result, node.output()->type());
  }

  static bool is_tensor(const c10::Type& type) { return type.kind() == c10::TypeKind::TensorType; }

  // A value with each of its tensors marked as a site. A list or dictionary is known by what it was
  // made of; one that is computed hides its tensors.
  Slot sites(const std::string& name, const std::string& type, Slot value, c10::TypePtr of) {
    if (is_known(value)) return value;
    if (is_tensor(*of)) return builder_.site(name, type, value);
    const std::vector<Leaf> leaves = leaves_of(value, *of);
    if (leaves.empty()) return value;
    std::vector<Slot> marked;
    for (const Leaf& leaf : leaves) {
      marked.push_back(leaf.is_key ? leaf.slot
                                   : sites(name + leaf.name, type, leaf.slot, leaf.type));
    }
    return containers_.construct(of, marked);
  }

  struct Leaf {
    std::string name;
    Slot slot;
    c10::TypePtr type;
    bool is_key = false;
  };

  std::vector<Leaf> leaves_of(Slot value, const c10::Type& type) {
    std::vector<Leaf> leaves;
    const std::vector<Slot>* known = containers_.elements(value);
    if (!known && type.kind() != c10::TypeKind::TupleType) return {};
    const std::vector<Slot> slots =
        known ? *known : builder_.unpack(value, type.containedTypes().size());
    const bool is_dictionary = type.kind() == c10::TypeKind::DictType;
    for (size_t i = 0; i < slots.size(); ++i) {
      if (!is_dictionary) {
        const bool is_list = type.kind() == c10::TypeKind::ListType;
        leaves.push_back({fmt::format("[{}]", i), slots[i], type.containedType(is_list ? 0 : i)});
      } else if (i % 2 == 0) {
        if (!is_known(slots[i])) return {};
        leaves.push_back({"", slots[i], type.containedType(0), /*is_key=*/true});
      } else {
        leaves.push_back({key_of(slots[i - 1]), slots[i], type.containedType(1)});
      }
    }
    return leaves;
  }

  // "[logits]", "[0]".
  std::string key_of(Slot key) const {
    const c10::IValue& value = builder_.value(key);
    return value.isString() ? "[" + value.toStringRef() + "]" : fmt::format("[{}]", value.toInt());
  }

  void operate(jit::Node& node, Env& env) {
    std::vector<Slot> inputs;
    for (const jit::Value* input : node.inputs()) inputs.push_back(env.at(input));
    if (fold(node, inputs, env)) return;
    auto slots = containers_.operate(node, inputs);
    if (!slots) {
      for (Slot& slot : inputs) slot = containers_.current(slot);
      const c10::FunctionSchema& schema = node.schema();
      for (const size_t input : written_inputs(schema)) containers_.forget(inputs.at(input));
      const Call call = [operation = node.getOperation()](Stack& stack) mutable {
        operation(stack);
      };
      slots = builder_.operate({step_name(node), call, std::move(inputs), {}, schema.name()},
                               schema, functional_form(schema), node.outputs().size());
    }
    for (size_t i = 0; i < node.outputs().size(); ++i) env[node.outputs()[i]] = slots->at(i);
  }

  // Computes what is known beforehand: numbers, texts and comparisons with None of constants, so
  // that an `if` on them can be resolved.
  bool fold(jit::Node& node, const std::vector<Slot>& inputs, Env& env) {
    const std::string name = node.kind().toQualString();
    if (name == "aten::__is__" || name == "aten::__isnot__") {
      // A tensor is never None, whatever it holds.
      const bool none[] = {is_none(inputs[0]), is_none(inputs[1])};
      const auto is_there = [&](size_t i) {
        return is_tensor(*node.input(i)->type()) || inputs_.is_given(inputs[i]);
      };
      const bool tensor[] = {is_there(0), is_there(1)};
      if ((none[0] && tensor[1] && !is_known(inputs[1])) ||
          (none[1] && tensor[0] && !is_known(inputs[0]))) {
        env[node.output()] = builder_.constant(name == "aten::__isnot__");
        return true;
      }
    }
    if (node.outputs().size() != 1 || node.isNondeterministic()) return false;
    const auto kind = node.output()->type()->kind();
    if (kind != c10::TypeKind::BoolType && kind != c10::TypeKind::IntType &&
        kind != c10::TypeKind::FloatType && kind != c10::TypeKind::StringType &&
        kind != c10::TypeKind::DeviceObjType) {
      return false;
    }
    Stack stack;
    for (const Slot input : inputs) {
      if (!is_known(input)) return false;
      stack.push_back(builder_.value(input));
    }
    try {
      node.getOperation()(stack);
    } catch (const std::exception&) {
      return false;  // then let it fail where it is run
    }
    env[node.output()] = builder_.constant(moved(stack.back(), device_));
    return true;
  }

  bool is_none(Slot slot) const { return is_known(slot) && builder_.value(slot).isNone(); }

  static std::string step_name(const jit::Node& node) {
    const std::string scope = node.scopeName();
    const std::string name = node.kind().toQualString();
    return scope.empty() ? name : name + " at " + scope;
  }

  void construct_or_interpret(jit::Node& node, Env& env) {
    const auto kind = node.kind();
    if (kind == prim::ListConstruct || kind == prim::TupleConstruct ||
        kind == prim::DictConstruct) {
      std::vector<Slot> elements;
      for (const jit::Value* input : node.inputs()) elements.push_back(env.at(input));
      env[node.output()] = containers_.construct(node.output()->type(), elements);
    } else {
      ProgramBuilder::RawStep step = interpreted(
          node, env, step_name(node),
          {builder_, device_, evaluated_, [this](Slot slot) { return containers_.current(slot); }});
      for (const size_t input : step.writes) containers_.forget(step.step.inputs[input]);
      const auto slots = builder_.add(std::move(step), node.outputs().size());
      for (size_t i = 0; i < slots.size(); ++i) env[node.outputs()[i]] = slots[i];
    }
  }

  void unpack(const jit::Node& node, Env& env) {
    const Slot packed = env.at(node.input());
    const std::vector<Slot>* known = containers_.elements(packed);
    const size_t count = node.outputs().size();
    const auto slots = known && known->size() == count
                           ? *known
                           : builder_.unpack(containers_.current(packed), count);
    for (size_t i = 0; i < slots.size(); ++i) env[node.outputs()[i]] = slots[i];
  }

  // The tensor of the result that the options name, or the first.
  Slot chosen_output(Slot result) {
    const std::string& wanted = options_.output;
    const auto descend = [&](const auto& self, Slot slot, const std::string& name) -> bool {
      const std::vector<Slot>* elements = containers_.elements(slot);
      if (!elements) {
        tensors_.emplace_back(name, slot);
        return wanted.empty() || name == wanted;
      }
      const bool is_dictionary = elements->size() >= 2 && is_known(elements->at(0)) &&
                                 builder_.value(elements->at(0)).isString();
      for (size_t i = is_dictionary ? 1 : 0; i < elements->size(); i += is_dictionary ? 2 : 1) {
        const std::string leaf =
            is_dictionary ? key_of(elements->at(i - 1)) : fmt::format("[{}]", i);
        if (self(self, elements->at(i), name + leaf)) return true;
      }
      return false;
    };
    if (descend(descend, result, "")) return containers_.current(tensors_.back().second);
    std::vector<std::string> names;
    for (const auto& [name, slot] : tensors_) names.push_back(name);
    throw ArgumentError("output", "one of the model's", with_nearest(wanted, names));
  }

  ProgramBuilder& builder_;
  const ProgramOptions& options_;
  const std::optional<c10::Device> device_;
  bool evaluated_;  // whether flags for training are taken as off
  ScriptContainers containers_;
  ScriptInputs inputs_;
  std::unordered_map<Slot, std::string> paths_;  // of the object in a slot
  std::map<std::pair<const c10::ivalue::Object*, std::string>, Slot> attributes_;
  std::vector<std::pair<std::string, Slot>> tensors_;  // of the result
  std::set<std::string> missing_;
};

}  // namespace

Slot lower_graph(ProgramBuilder& builder, jit::Graph& graph, const std::vector<Slot>& inputs) {
  const ProgramOptions options;
  return ScriptLowering(builder, options, {}, /*evaluated=*/false).trace(graph, inputs);
}

Slot lower_module(ProgramBuilder& builder, const jit::Module& module, const ProgramOptions& options,
                  bool evaluated) {
  return ScriptLowering(builder, options, options.device, evaluated)(module);
}

}  // namespace diffmask
