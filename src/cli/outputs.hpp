#pragma once
/// \file
/// What the program is told of a model's output and of its states' axes: --target, --output-kind and
/// --layout; private.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "cli/model_file.hpp"
#include "diffmask/attribution/methods.hpp"
#include "diffmask/data/batch.hpp"
#include "diffmask/mask/positions.hpp"
#include "diffmask/objective/output_kind.hpp"
#include "diffmask/program/program.hpp"

namespace CLI {
class App;
}

namespace diffmask::cli {

struct OutputOptions {
  std::string target;                ///< see Number; empty: told by the output
  std::string kind;                  ///< of output_kinds(); empty: told by the shape
  std::vector<std::string> layouts;  ///< of states with as many axes: "TBF"

  void add_to(CLI::App& command);

  /// The model's options with the output that the target names; ArgumentError where --output names
  /// another.
  ModelOptions chosen(ModelOptions model) const;
};

/// --target in its parts: "1", "3,2" or "3:2", "logits", "logits:1", "logits:3,2".
struct Number {
  std::string output;          ///< as ProgramOptions::output has it: "[logits]"; empty: none named
  std::vector<int64_t> index;  ///< along the output's axes but the batch's; may be empty

  /// ArgumentError that shows the forms.
  static Number parse(const std::string& target);
};

/// What to explain, and what counts as the same output.
struct Explained {
  Target target;
  /// As --target has it, or what it is by default: "predicted", "the only number", "the whole
  /// output" or the named kind's.
  std::string target_name = {};
  Divergence divergence = {};   ///< empty where the kind has to be named, and the method reads none
  Criterion criterion = {};     ///< empty where there is no decision, or the kind has to be named
  Target log_probability = {};  ///< likewise
};

/// For this method; ArgumentError with the choices where the output's shape does not tell, or where
/// the method reads no target. Shape: output with the examples first.
Explained explained(const at::Tensor& output, const OutputOptions& options, const Method& method);

/// The same for a comparison, in which every part has a use.
Explained compared(const at::Tensor& output, const OutputOptions& options);

/// Where a state's examples, positions and features are: as a layout with as many axes says, else
/// told by sizes, operators and, in doubt, by trying out which axis the examples are (`leak`).
/// ArgumentError that names the cure where that does not tell.
Positions layout_of(const Program& model, const Recording& recording, const std::string& site,
                    const std::vector<std::string>& layouts);

/// The axes of a batch's inputs, tried out on the examples in another order.
std::vector<int64_t> axes_of(const Program& model, const Recording& recording, int64_t examples);

}  // namespace diffmask::cli
