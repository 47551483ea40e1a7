#pragma once
/// \file
/// How a Program is held and built; private, as it needs LibTorch's IValue.

#include <ATen/ATen.h>
#include <ATen/core/function_schema.h>
#include <ATen/core/ivalue.h>
#include <ATen/core/stack.h>

#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "diffmask/program/program.hpp"
#include "program/modes.hpp"

namespace diffmask {

using Slot = int64_t;

// Steps that are no operators.
constexpr const char *kConstruct = "prim::Construct", *kUnpack = "prim::Unpack", *kSite = "site";

struct Step {
  std::string name;  // for errors: "aten::linear at encoder.0"
  Call call;
  std::vector<Slot> inputs, outputs;
  std::string operation = {};  // for rules: "aten::linear", also where the source has "linear_"
  std::string module = {};  // the call of a module that it is part of: "encoder.0", "encoder.0#1"
  std::string effect = {};  // beside its outputs: "draws random numbers"; see modes.hpp

  /// Calls it, naming it in errors; leaves one value an output on the stack.
  void run(Stack& stack) const;
};

struct ProgramGraph {
  struct SiteSlot {
    std::string name, type;
    Slot slot;
    bool is_input = false;
  };
  std::vector<c10::IValue> constants;  // by slot; None where a step or the caller gives the value
  std::vector<bool> known;             // by slot: whether it is a constant
  std::vector<std::string> input_names;
  std::vector<Slot> inputs;
  std::vector<Step> steps;
  std::vector<SiteSlot> sites;  // in execution order
  Slot output = 0;
  std::map<std::string, at::Tensor> tensors;
  std::function<void(const Inputs&)> check_inputs;  // may be empty

  /// Throws ArgumentError for inputs that are not of this program.
  void check(const Inputs& given) const;
};

/// Runs a graph without sites: a block that is one step of another graph.
c10::IValue evaluate(const ProgramGraph& graph, const Stack& inputs);

/// How operators that draw or write statistics are run.
struct Chance {
  uint64_t seed = 0;
  c10::Device device = c10::kCPU;
};

/// Takes the steps of a program as its source has them, in-place operators and all, and makes the
/// graph, in which no slot is written twice.
class ProgramBuilder {
 public:
  /// A step as its source has it. `writes` are the indices of the inputs that it changes in
  /// place, `aliases` of those whose storage its outputs may share.
  struct RawStep {
    Step step;
    std::vector<size_t> writes, aliases;
    Call functional;  // the same without writing, for a step with one write; may be empty
  };

  ProgramBuilder() = default;
  explicit ProgramBuilder(const ProgramOptions& options) : chance_{options.seed, options.device} {}

  /// The module that steps added from here on are part of; gives back the one before.
  std::string enter(std::string module);

  Slot constant(c10::IValue value);
  bool is_constant(Slot slot) const { return graph_.known[static_cast<size_t>(slot)]; }
  const c10::IValue& value(Slot slot) const { return graph_.constants[static_cast<size_t>(slot)]; }
  Slot input(std::string name);
  /// A parameter or buffer: part of what Program::tensors() gives, and so of the fingerprint.
  void weight(const std::string& name, const at::Tensor& tensor);
  /// The constant holds a parameter or buffer of this name, which no operator is to write into.
  void mark_stored(Slot slot, std::string name) { stored_[slot] = std::move(name); }
  /// The name of the parameter or buffer that a value is, or is a view of; empty where it is none.
  std::string stored(Slot slot) const;

  /// Adds a step and gives its output slots.
  std::vector<Slot> add(RawStep step, size_t outputs);
  /// The call of an operator: what it writes and what its outputs may be views of is in its schema.
  /// Where it draws, it does so from a seed of its own; where it updates statistics, on copies. What
  /// has no derivative is taken apart, where fused.hpp can.
  std::vector<Slot> operate(Step step, const c10::FunctionSchema& schema, Call functional,
                            size_t outputs);
  /// The same for a step that has these effects: names the effect, makes the call harmless.
  void contain(Step& step, const Effects& effects);
  /// A step that neither writes nor shares storage.
  Slot compute(std::string name, Call call, std::vector<Slot> inputs, std::string operation = {});
  /// The tuple, list or dictionary (key, value, key, value, ...) of these elements.
  Slot construct(const c10::TypePtr& type, std::vector<Slot> elements);
  /// The elements of a tuple or list that holds `count` of them.
  std::vector<Slot> unpack(Slot container, size_t count);

  /// Marks a value as a site and gives the slot to use in its place.
  Slot site(const std::string& name, const std::string& type, Slot slot);
  /// `name`, or `name#k` where it is the k-th repetition.
  std::string numbered(const std::string& name);

  /// The graph, with its inputs as sites where they are asked for or it has no other.
  std::unique_ptr<ProgramGraph> finish(Slot output, bool input_sites = false);

 private:
  Slot fresh();
  void add_input_sites();

  ProgramGraph graph_;
  std::vector<RawStep> raw_;
  std::string module_;
  std::unordered_map<std::string, int64_t> calls_;
  std::unordered_map<Slot, std::string> stored_;
  Chance chance_;
  uint64_t draws_ = 0;  // the number of steps that draw
};

/// `relu` for `relu_`, where there is one with the same arguments; else empty. What was written
/// into keeps its dtype and shape, also where the operator alone would give a wider one.
Call functional_form(const c10::FunctionSchema& schema);

/// A schema's inputs that it writes, and those that its outputs may share storage with.
std::vector<size_t> written_inputs(const c10::FunctionSchema& schema);
std::vector<size_t> aliased_inputs(const c10::FunctionSchema& schema);

}  // namespace diffmask
