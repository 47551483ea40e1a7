#pragma once
/// \file
/// Tapes: one pass of a program that can be walked backward, one operator at a time.
///
///     forward    y = op(x), each x a leaf of its own, so that every operator's graph stands alone
///     backward   what arrives at y is turned by a rule into what x is given, and added up there
///
/// Recurrent operators are run in their parts (program/recurrent.hpp), and half precision in float.
/// With the rule "op's own gradient" that is backpropagation; DeepLIFT and LRP are other rules.
/// Private, as it needs LibTorch's IValue.

#include <ATen/ATen.h>

#include <functional>
#include <optional>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "program/program_graph.hpp"

namespace diffmask {

/// All tensors in a value: itself, or those of a list or tuple.
void append_tensors(const c10::IValue& value, std::vector<at::Tensor>& tensors);

/// The value with each of its tensors replaced by what `change` gives.
c10::IValue map_tensors(const c10::IValue& value,
                        const std::function<at::Tensor(const at::Tensor&)>& change);

/// One step of a pass.
struct Operation {
  const Step& step;
  Stack inputs;                     ///< as the operator was given them
  std::vector<at::Tensor> varying;  ///< the distinct tensors among them that are explained
  bool repeated = false;            ///< whether one of these is an input twice, as in x * x
  std::vector<at::Tensor> outputs;  ///< the tensors that depend on them, with the step's own graph

  /// What depends on the roots without a gradient (Explained::differences): conditions, choices,
  /// what they are cast to. The distinct inputs of this sort, and the outputs.
  std::vector<at::Tensor> deciding = {}, decided = {};
  std::vector<at::Tensor> read = {};  ///< outputs and then decided, as later steps are given them

  /// The gradients of sum_k <given_k, outputs_k>, one for each varying tensor; zeros where there is
  /// no dependence. Shape: given as outputs.
  std::vector<at::Tensor> gradients(const std::vector<at::Tensor>& given) const;

  /// The same step with other tensors in place of the varying ones.
  Operation at(const std::vector<at::Tensor>& varying) const;

  /// The step's outputs for other inputs, without a graph unless these ask for one.
  std::vector<at::Tensor> call(Stack inputs) const;
};

/// What a walk comes to, of all that depends on the roots.
enum class Explained {
  gradients,    // what has a gradient; operators of others' libraries and quantized ones, too
  differences,  // all of it, such as x > 0
};

class Tape {
 public:
  /// Runs what the output depends on, keeping every value. What is explained is what depends on
  /// the values in `roots`.
  Tape(const ProgramGraph& graph, const Inputs& inputs, const std::vector<Slot>& roots,
       Explained explained = Explained::gradients);

  const c10::IValue& value(Slot slot) const { return values_[static_cast<size_t>(slot)]; }
  Slot output_slot() const { return output_; }
  const at::Tensor& output() const { return value(output_).toTensor(); }

  /// The pass with another state at a site: values by slot, None where they stay what they are.
  Stack resume(Slot site, const at::Tensor& state) const;

  /// Which values are of interest; empty: all that depend on the roots.
  using Filter = std::function<bool(Slot)>;

  /// What is given to a tensor that the walk has not come to yet.
  struct Share {
    at::Tensor to, amount;
  };
  /// Turns what arrived at an operation's outputs, and then at what it decided, into shares, as a
  /// rule of its varying tensors and of those that decide.
  using Rule = std::function<std::vector<Share>(const Operation& operation,
                                                const std::vector<at::Tensor>& given)>;

  /// Walks from the output, which is given `seed`, back to `sites`; what arrived there, undefined
  /// where nothing did.
  std::vector<at::Tensor> walk(const at::Tensor& seed, const std::vector<Slot>& sites,
                               const Filter& wanted, const Rule& rule) const;

  /// The operation that gave this tensor; empty for a root or a constant.
  std::optional<Operation> maker(const at::Tensor& tensor, const Filter& wanted) const;

 private:
  Stack inputs_of(const Step& step) const;
  void run(const Step& step, const std::unordered_set<Slot>& roots);
  Operation operation(size_t step, const Filter& wanted) const;
  bool depends(const at::Tensor& tensor) const;
  bool is_followed(const Step& step, const Stack& inputs) const;

  Slot output_;
  Explained explained_;
  // An output with its step's graph, if it has a gradient, and what later steps read in its place.
  struct Made {
    at::Tensor output, leaf;
  };
  Stack values_;                                              // by slot
  std::vector<Step> steps_;                                   // that ran
  std::vector<std::vector<Made>> made_;                       // by step
  std::unordered_map<const c10::TensorImpl*, size_t> maker_;  // of a leaf: the step
};

}  // namespace diffmask
