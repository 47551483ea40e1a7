#include "program/script_containers.hpp"

#include <algorithm>
#include <string>

namespace diffmask {

Slot ScriptContainers::construct(const c10::TypePtr& type, const std::vector<Slot>& elements) {
  std::vector<Slot> now = elements;
  for (Slot& slot : now) slot = current(slot);
  const Slot slot = builder_.construct(type, now);
  containers_[slot] = {type, elements, slot};
  return slot;
}

const std::vector<Slot>* ScriptContainers::elements(Slot container) const {
  const auto found = containers_.find(container);
  return found != containers_.end() && found->second.is_known ? &found->second.elements : nullptr;
}

bool ScriptContainers::is_changed(const Container& container) const {
  if (!container.is_known) return false;
  return container.is_changed ||
         std::any_of(container.elements.begin(), container.elements.end(), [&](Slot slot) {
           const auto inner = containers_.find(slot);
           return inner != containers_.end() && is_changed(inner->second);
         });
}

Slot ScriptContainers::current(Slot slot) {
  const auto found = containers_.find(slot);
  if (found == containers_.end()) return slot;
  if (!is_changed(found->second)) return found->second.slot;
  std::vector<Slot> now = found->second.elements;
  for (Slot& element : now) element = current(element);
  Container& container = containers_.at(slot);
  container.is_changed = false;
  return container.slot = builder_.construct(container.type, now);
}

void ScriptContainers::forget(Slot current) {
  for (auto& [slot, container] : containers_) {
    if (container.slot == current) container.is_known = false;
  }
}

ScriptContainers::Container* ScriptContainers::known(Slot slot) {
  const auto found = containers_.find(slot);
  return found != containers_.end() && found->second.is_known ? &found->second : nullptr;
}

int64_t ScriptContainers::place(const Container& container, Slot key) const {
  const auto size = static_cast<int64_t>(container.elements.size());
  if (!builder_.is_constant(key)) return -1;
  const c10::IValue& wanted = builder_.value(key);
  if (container.type->kind() != c10::TypeKind::DictType) {
    const int64_t index = wanted.isInt() ? wanted.toInt() : size;
    const int64_t from_start = index < 0 ? index + size : index;
    return from_start >= 0 && from_start < size ? from_start : -1;
  }
  for (int64_t i = 0; i < size; i += 2) {
    const Slot there = container.elements[static_cast<size_t>(i)];
    if (!builder_.is_constant(there)) return -1;
    const c10::IValue& other = builder_.value(there);
    if (wanted.isString() && other.isString() && wanted.toStringRef() == other.toStringRef()) {
      return i + 1;
    }
    if (wanted.isInt() && other.isInt() && wanted.toInt() == other.toInt()) return i + 1;
    if (!(wanted.isString() && other.isString()) && !(wanted.isInt() && other.isInt())) return -1;
  }
  return size;
}

std::optional<std::vector<Slot>> ScriptContainers::operate(const torch::jit::Node& node,
                                                           const std::vector<Slot>& inputs) {
  Container* container = inputs.empty() ? nullptr : known(inputs[0]);
  if (!container) return {};
  const std::string name = node.kind().toQualString();
  const bool is_dictionary = container->type->kind() == c10::TypeKind::DictType;
  std::vector<Slot>& elements = container->elements;
  if (name == "aten::len") {
    const auto size = static_cast<int64_t>(elements.size());
    return std::vector<Slot>{builder_.constant(is_dictionary ? size / 2 : size)};
  }
  if (name == "aten::append" && inputs.size() == 2) {
    elements.push_back(inputs[1]);
    container->is_changed = true;
    return node.outputs().empty() ? std::vector<Slot>{} : std::vector<Slot>{inputs[0]};
  }
  if (inputs.size() < 2) return {};
  const int64_t at = place(*container, inputs[1]);
  if (at < 0) return {};
  const bool is_there = at < static_cast<int64_t>(elements.size());
  if (name == "aten::__contains__" && is_dictionary) {
    return std::vector<Slot>{builder_.constant(is_there)};
  }
  if (name == "aten::__getitem__" && is_there) {
    return std::vector<Slot>{elements[static_cast<size_t>(at)]};
  }
  if (name == "aten::_set_item" && inputs.size() == 3) {
    container->is_changed = true;
    if (is_there) {
      elements[static_cast<size_t>(at)] = inputs[2];
    } else {
      elements.insert(elements.end(), {inputs[1], inputs[2]});
    }
    return node.outputs().empty() ? std::vector<Slot>{} : std::vector<Slot>{inputs[0]};
  }
  return {};
}

}  // namespace diffmask
