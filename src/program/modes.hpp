#pragma once
/// \file
/// Training mode, told by what operators do and not by flags; private.
///
///     draws        random numbers: dropout at work, bernoulli, rand, rrelu at work, ...
///     statistics   is given running statistics and updates them: batch norm at work, ...
///     writes       into a parameter or buffer, by an operator whose name ends in "_"
///
/// A flag that nothing depends on does no harm: a wrapper around an evaluated model has one.

#include <ATen/core/function_schema.h>
#include <ATen/core/ivalue.h>
#include <ATen/core/stack.h>
#include <c10/core/Device.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace diffmask {

struct ProgramGraph;
struct ProgramOptions;

using Stack = std::vector<c10::IValue>;
using Call = std::function<void(Stack&)>;  // takes the inputs off the stack, puts the outputs on

/// What a call does beside giving its outputs.
struct Effects {
  bool draws = false;
  std::vector<size_t> statistics;    ///< inputs that it writes, though its schema does not say so
  std::vector<std::string> written;  ///< the parameters and buffers that it writes into
  /// Whether it can draw, but does not, by a probability of 0: its flag changes nothing.
  bool is_idle = false;

  /// "draws random numbers", "writes into bn.running_mean"; empty without effects.
  std::string describe() const;
};

/// An argument's value; null where it is known in a pass only. Then the worst is assumed.
using Known = std::function<const c10::IValue*(size_t argument)>;
/// The parameter or buffer that an argument is, or is a view of; empty where it is none.
using Stored = std::function<std::string(size_t argument)>;

Effects effects_of(const c10::FunctionSchema& schema, const Known& known, const Stored& stored);

/// Whether an output is certain to be a view of an input: what may copy instead is not.
bool is_view(const c10::FunctionSchema& schema);

/// The index of an operator's flag for training; -1 where it has none.
int64_t training_flag(const c10::FunctionSchema& schema);

/// A value of its own storage.
c10::IValue copy_of(const c10::IValue& value);

/// The call with the default generators of the CPU and the device set to `seed`, and then back to
/// what they were. One such call runs at a time.
Call seeded(Call call, uint64_t seed, c10::Device device);

/// Whether an operator ("aten::save") reads or writes files or talks to anyone: no model's file is
/// to make this program do so.
bool reaches_outside(const std::string& name);

/// The call on copies of some of its inputs.
Call on_copies(Call call, std::vector<size_t> inputs);

/// By step: whether the output or a site depends on it.
std::vector<bool> needed_steps(const ProgramGraph& graph);

/// "aten::dropout at encoder, which draws random numbers" for each step with effects that a pass
/// may run.
std::vector<std::string> effects_in(const ProgramGraph& graph);

/// ArgumentError, naming all steps with effects, unless the options allow them.
void check_effects(const ProgramGraph& graph, const ProgramOptions& options);

/// The first step of a graph that another does not have; empty where they do the same.
std::string first_difference(const ProgramGraph& graph, const ProgramGraph& other);

}  // namespace diffmask
