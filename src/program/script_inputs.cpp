#include "program/script_inputs.hpp"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/passes/inliner.h>

#include <algorithm>
#include <functional>
#include <memory>

#include "diffmask/core/error.hpp"

namespace diffmask {
namespace {

namespace jit = torch::jit;
using c10::TypeKind;

bool is_number(const c10::Type& type) {
  return type.kind() == TypeKind::IntType || type.kind() == TypeKind::FloatType ||
         type.kind() == TypeKind::BoolType || type.kind() == TypeKind::NumberType;
}

// A list of numbers is one tensor.
bool is_one_tensor(const c10::Type& type) {
  return type.kind() == TypeKind::TensorType || is_number(type) ||
         (type.kind() == TypeKind::ListType && is_number(*type.containedType(0)));
}

c10::IValue number_of(const at::Tensor& tensor, TypeKind kind) {
  require(tensor.numel() == 1, "an input that is a number", "of one element", tensor.numel());
  if (kind == TypeKind::IntType) return tensor.item<int64_t>();
  if (kind == TypeKind::FloatType) return tensor.item<double>();
  if (kind == TypeKind::BoolType) return tensor.item<bool>();
  return tensor.item();
}

void visit(const jit::Block& block, const std::function<void(const jit::Node&)>& see) {
  for (const jit::Node* node : block.nodes()) {
    see(*node);
    for (const jit::Block* inner : node->blocks()) visit(*inner, see);
  }
}

}  // namespace

std::vector<Slot> ScriptInputs::operator()(const c10::FunctionSchema& schema, jit::Graph& graph) {
  const std::shared_ptr<jit::Graph> inlined = graph.copy();
  jit::Inline(*inlined);
  const auto read_keys = [&](size_t argument) {
    keys_.clear();
    const jit::Value* dictionary = inlined->inputs().at(argument);
    visit(*inlined->block(), [&](const jit::Node& node) {
      const std::string kind = node.kind().toQualString();
      const bool tests = kind == "aten::__contains__" || kind == "aten::get";
      if ((!tests && kind != "aten::__getitem__") || node.input(0) != dictionary) return;
      const auto key = jit::toIValue(node.input(1));
      if (!key || !key->isString()) return;
      const std::string& text = key->toStringRef();
      const auto same = [&](const Key& other) { return other.text == text; };
      if (std::none_of(keys_.begin(), keys_.end(), same)) keys_.push_back({text, tests});
    });
  };
  const auto& arguments = schema.arguments();
  spare_ = given_;
  for (size_t i = 1; i < arguments.size(); ++i) {
    read_keys(i);
    if (!arguments[i].default_value()) spare_ -= least(*arguments[i].type());
  }
  std::vector<Slot> slots;
  for (size_t i = 1; i < arguments.size(); ++i) {
    const c10::Argument& argument = arguments[i];
    read_keys(i);
    if (!argument.default_value()) {
      slots.push_back(make(argument.type(), argument.name()));
    } else if (spare_ > 0) {
      c10::TypePtr type = argument.type();
      if (const auto optional = type->cast<c10::OptionalType>()) type = optional->getElementType();
      spare_ -= least(*type);
      slots.push_back(make(type, argument.name()));
    } else {
      slots.push_back(builder_.constant(*argument.default_value()));
    }
  }
  return slots;
}

// The number of tensors that a value of the type has at least.
int64_t ScriptInputs::least(const c10::Type& type) const {
  if (is_one_tensor(type)) return 1;
  int64_t count = 0;
  if (type.kind() == TypeKind::TupleType) {
    for (const auto& element : type.containedTypes()) count += least(*element);
  } else if (type.kind() == TypeKind::DictType) {
    for (const Key& key : keys_) count += key.is_optional ? 0 : least(*type.containedType(1));
  }
  return count;
}

Slot ScriptInputs::one(const c10::TypePtr& type, const std::string& name) {
  const Slot input = builder_.input(name);
  Slot slot = input;
  if (is_number(*type)) {
    slot = builder_.compute(
        "the number " + name,
        [kind = type->kind()](Stack& stack) { stack[0] = number_of(stack[0].toTensor(), kind); },
        {input}, "aten::item");
  } else if (type->kind() == TypeKind::ListType) {
    slot = builder_.compute(
        "the numbers " + name,
        [element = type->containedType(0)](Stack& stack) {
          const at::Tensor tensor = stack[0].toTensor();
          c10::impl::GenericList list(element);
          for (int64_t i = 0; i < tensor.numel(); ++i) {
            list.push_back(number_of(tensor.flatten()[i], element->kind()));
          }
          stack[0] = std::move(list);
        },
        {input}, "aten::item");
  }
  there_.insert(slot);
  return slot;
}

Slot ScriptInputs::make(const c10::TypePtr& type, const std::string& name) {
  if (is_one_tensor(*type)) return one(type, name);
  if (const auto optional = type->cast<c10::OptionalType>()) {
    const int64_t needed = std::max<int64_t>(1, least(*optional->getElementType()));
    if (spare_ < needed) return builder_.constant({});
    spare_ -= least(*optional->getElementType());
    return make(optional->getElementType(), name);
  }
  std::vector<Slot> elements;
  const auto add = [&](const c10::TypePtr& element, const std::string& key) {
    elements.push_back(make(element, fmt::format("{}[{}]", name, key)));
  };
  if (type->kind() == TypeKind::TupleType) {
    for (size_t i = 0; i < type->containedTypes().size(); ++i) {
      add(type->containedType(i), fmt::format("{}", i));
    }
  } else if (type->kind() == TypeKind::ListType && least(*type->containedType(0)) > 0) {
    require(given_ >= 0, fmt::format("input '{}'", name),
            "of a known length: say how many tensors are given (ProgramOptions::given)",
            type->repr_str());
    const int64_t each = least(*type->containedType(0));
    for (int64_t i = 0; spare_ >= each; ++i) {
      spare_ -= each;
      add(type->containedType(0), fmt::format("{}", i));
    }
  } else if (type->kind() == TypeKind::DictType &&
             type->containedType(0)->kind() == TypeKind::StringType && !keys_.empty()) {
    for (const Key& key : std::vector<Key>(keys_)) {
      if (key.is_optional && spare_-- <= 0) continue;
      elements.push_back(builder_.constant(key.text));
      add(type->containedType(1), key.text);
    }
  } else {
    throw ArgumentError(fmt::format("input '{}'", name),
                        "a tensor, a number, a list or tuple of these, a dictionary whose keys the "
                        "code names, or to have a default",
                        type->repr_str());
  }
  const Slot slot = containers_.construct(type, elements);
  there_.insert(slot);
  return slot;
}

}  // namespace diffmask
