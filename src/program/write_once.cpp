#include "program/write_once.hpp"

#include <ATen/ATen.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <numeric>
#include <set>
#include <unordered_map>
#include <utility>
#include <vector>

#include "program/modes.hpp"

namespace diffmask {
namespace {

using RawStep = ProgramBuilder::RawStep;

// Several steps that run as one. Their values have places of their own: first the inputs, of which
// the first few are copied, then what each step gives.
class Bundle {
 public:
  // Inputs.
  void take_copied(Slot slot) {
    take(slot);
    copied_ = inputs_.size();
  }
  void take(Slot slot) {
    if (place_.emplace(slot, count_).second) {
      inputs_.push_back(slot);
      ++count_;
    }
  }
  const std::vector<Slot>& inputs() const { return inputs_; }

  // Steps, after the inputs.
  void add(const Step& step) {
    Part part{step.call, {}, {}};
    for (const Slot slot : step.inputs) part.inputs.push_back(place_.at(slot));
    for (const Slot slot : step.outputs) part.outputs.push_back(place_[slot] = count_++);
    parts_.push_back(std::move(part));
  }

  // Outputs, after the steps.
  void give(Slot slot) { results_.push_back(place_.at(slot)); }

  Call call() const {
    return [parts = parts_, results = results_, copied = copied_, count = count_](Stack& stack) {
      Stack values = std::move(stack);
      values.resize(count);
      for (size_t place = 0; place < copied; ++place) values[place] = copy_of(values[place]);
      for (const Part& part : parts) {
        stack.clear();
        for (const size_t input : part.inputs) stack.push_back(values[input]);
        part.call(stack);
        for (size_t output = part.outputs.size(); output-- > 0; stack.pop_back()) {
          values[part.outputs[output]] = std::move(stack.back());
        }
      }
      stack.clear();
      for (const size_t result : results) stack.push_back(values[result]);
    };
  }

 private:
  struct Part {
    Call call;
    std::vector<size_t> inputs, outputs;
  };
  std::vector<Part> parts_;
  std::vector<Slot> inputs_;
  std::vector<size_t> results_;
  std::unordered_map<Slot, size_t> place_;
  size_t copied_ = 0, count_ = 0;
};

class Functionaliser {
 public:
  Functionaliser(std::vector<RawStep> raw, ProgramGraph& graph, Slot output)
      : raw_(std::move(raw)), graph_(graph), output_(output) {
    const size_t slots = graph_.known.size();
    set_.resize(slots);
    std::iota(set_.begin(), set_.end(), 0);
    now_ = set_;
    last_read_.assign(slots, -1);
    readers_.assign(slots, 0);
    made_by_.assign(slots, -1);
  }

  Slot operator()() {
    number();
    for (size_t i = 0; i < raw_.size(); ++i) {
      const RawStep& raw = raw_[i];
      if (raw.writes.empty()) {
        emit(raw.step, raw.step.call, current(raw.step.inputs), raw.step.outputs);
        unite(raw);
      } else if (raw.functional && raw.writes.size() == 1 && others(i, raw).empty()) {
        write_functionally(raw);
      } else {
        write_into_copy(i);
      }
    }
    return now_[output_];
  }

 private:
  static constexpr int64_t kEnd = std::numeric_limits<int64_t>::max();
  class WriteIntoCopy;

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
        if (gives_what_it_wrote(raw)) {
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

  static bool gives_what_it_wrote(const RawStep& raw) {
    return !raw.aliases.empty() && raw.step.outputs.size() == 1;
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
                            source.operation, source.module, source.effect});
  }

  Slot fresh() {
    graph_.constants.emplace_back();
    graph_.known.push_back(false);
    return static_cast<Slot>(graph_.known.size()) - 1;
  }
  Slot fresh(Slot of) { return now_[of] = fresh(); }

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

  void write_into_copy(size_t i);

  std::vector<RawStep> raw_;
  ProgramGraph& graph_;
  Slot output_;
  std::vector<Slot> set_;           // union-find: which slots may share storage
  std::vector<Slot> now_;           // the slot that holds a raw slot's value at this point
  std::vector<int64_t> last_read_;  // the index of the raw step, -1: never
  std::vector<int64_t> readers_;    // how many raw steps, and the output
  std::vector<int64_t> made_by_;    // the index of the raw step, -1: a constant or an input
};

// One raw step that writes, as a step that copies first. Where the step has a functional form, that
// is a step of its own, and all that is written is what it gives: rules by operator know both.
class Functionaliser::WriteIntoCopy {
 public:
  WriteIntoCopy(Functionaliser& all, size_t i) : all_(all), i_(i), raw_(all.raw_[i]) {}

  void operator()() {
    find_members();
    const Step step = writing_step();
    take_inputs(step);
    take_views_again();
    bundle_.add(step);
    const std::vector<Slot> inputs = all_.current(bundle_.inputs());
    const std::vector<Slot> outputs = give_new_values();
    all_.emit(step, bundle_.call(), inputs, outputs);
  }

 private:
  // What has to have a new value: the written slots, those read later, and what they are views of.
  void find_members() {
    std::vector<Slot> members = all_.others(i_, raw_);
    for (const size_t input : raw_.writes) members.push_back(raw_.step.inputs[input]);
    const std::vector<Slot> readers = members;
    for (size_t m = 0; m < members.size(); ++m) {
      const int64_t maker = all_.made_by_[members[m]];
      if (maker < 0 || all_.raw_[maker].aliases.empty() || stays_site(members[m], readers)) {
        roots_.insert(members[m]);
      } else if (views_.insert(maker).second) {
        for (const size_t input : all_.raw_[maker].aliases) {
          members.push_back(all_.raw_[maker].step.inputs[input]);
        }
      }
    }
    members_.insert(members.begin(), members.end());
  }

  Step writing_step() {
    const bool moves = raw_.step.operation == "aten::copy_";
    if (moves || !raw_.functional || raw_.writes.size() != 1 || !gives_what_it_wrote(raw_)) {
      return raw_.step;
    }
    const Slot value = all_.fresh();
    all_.now_.resize(static_cast<size_t>(value) + 1, value);
    all_.made_by_.resize(all_.now_.size(), -1);
    all_.emit(raw_.step, raw_.functional, all_.current(raw_.step.inputs), {value});
    Step& computes = all_.graph_.steps.back();
    computes.operation.pop_back();  // of its "_"
    computes.effect.clear();
    Step step = raw_.step;
    step.call = [](Stack& stack) {
      stack[0].toTensor().copy_(stack[1].toTensor());
      stack.pop_back();
    };
    step.inputs = {raw_.step.inputs[raw_.writes[0]], value};
    step.operation = "aten::copy_";
    return step;
  }

  // The roots, to be copied, and what the views and the writing step read besides.
  void take_inputs(const Step& step) {
    for (const Slot root : roots_) bundle_.take_copied(root);
    for (const int64_t view : views_) take_outer_inputs(all_.raw_[view].step);
    take_outer_inputs(step);
  }

  // A step's inputs that the views taken anew do not give.
  void take_outer_inputs(const Step& step) {
    for (const Slot slot : step.inputs) {
      if (!views_.contains(all_.made_by_[slot])) bundle_.take(slot);
    }
  }

  void take_views_again() {
    for (const int64_t view : views_) bundle_.add(all_.raw_[view].step);
  }

  std::vector<Slot> give_new_values() {
    std::vector<Slot> outputs;
    for (const Slot member : members_) {
      bundle_.give(member);
      outputs.push_back(all_.fresh(member));
    }
    if (gives_what_it_wrote(raw_)) return outputs;
    for (const Slot output : raw_.step.outputs) {
      bundle_.give(output);
      outputs.push_back(output);
    }
    return outputs;
  }

  // What is behind a site may have been replaced, so it is copied from there. But where somebody
  // will still read what the site was made from, the write has to reach that too: a replaced state
  // could not, and so this is no site.
  bool stays_site(Slot slot, const std::vector<Slot>& read_later) {
    auto& sites = all_.graph_.sites;
    const auto site =
        std::find_if(sites.begin(), sites.end(), [&](const auto& s) { return s.slot == slot; });
    if (site == sites.end()) return false;
    const std::set<Slot> before = view_of(all_.raw_[all_.made_by_[slot]].step.inputs, slot);
    for (const Slot other : view_of(read_later, slot)) {
      if (!before.contains(other)) continue;
      sites.erase(site);
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
      const int64_t maker = all_.made_by_[slot];
      if (!all.insert(slot).second || slot == end || maker < 0) continue;
      for (const size_t input : all_.raw_[maker].aliases) {
        slots.push_back(all_.raw_[maker].step.inputs[input]);
      }
    }
    return all;
  }

  Functionaliser& all_;
  size_t i_;
  const RawStep& raw_;
  std::set<Slot> members_, roots_;  // roots: members that are copied, being views of none
  std::set<int64_t> views_;         // the indices of the raw steps that take the other members
  Bundle bundle_;
};

void Functionaliser::write_into_copy(size_t i) { WriteIntoCopy(*this, i)(); }

}  // namespace

Slot write_once(std::vector<RawStep> steps, ProgramGraph& graph, Slot output) {
  return Functionaliser(std::move(steps), graph, output)();
}

}  // namespace diffmask
