#pragma once
/// \file
/// What all subcommands share: a model in a file, its inputs, and the sites that were chosen;
/// private.

#include <ATen/core/Tensor.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "diffmask/data/batch.hpp"
#include "diffmask/format/safetensors.hpp"
#include "diffmask/program/program.hpp"

namespace CLI {
class App;
}

namespace diffmask::cli {

/// 2, or 1 where the program may use one core only.
int64_t default_threads();

struct ModelOptions {
  std::string model, inputs, mask, pattern = "**", output, device = "cpu", function = "forward";
  bool json = false, module_inputs = false, allow_chance = false;
  int64_t threads = default_threads();

  /// Adds the options that every subcommand has: all but --inputs and --mask.
  void add_to(CLI::App& command);

  /// Adds --inputs, a file, and --mask.
  void add_inputs_and_mask(CLI::App& command);

  /// `given`: the number of input tensors, -1 where it is not known.
  std::shared_ptr<const Program> load(int64_t given = -1, uint64_t seed = 0) const;

  /// The sites that the pattern chooses: the model's inputs only where it chooses nothing else.
  std::vector<std::string> sites_of(const Program& model) const;

  /// Those of them that can be explained on these inputs: states of numbers that are not whole,
  /// with a row per example. What a pattern chooses beside them is left out, and said once.
  std::vector<std::string> explained_sites(const Program& model, const Inputs& inputs) const;
};

/// Names of dtypes as numpy has them, where it has them.
std::string dtype_name(at::ScalarType dtype);

/// The tensors input0, input1, ... of a file.
Inputs inputs_of(const Safetensors& file);

/// The tensor of a file that says which positions count, as bool (B, P): the one called `name`, which
/// may be one of the inputs; if `name` is empty, the one called mask, undefined where there is none.
/// FileError where there is no tensor of this name, ArgumentError for values other than 0 and 1.
at::Tensor mask_of(const Safetensors& file, const std::string& name);

/// Those of a file, or zeros of shapes such as "int64[2,7];float32[2,7]".
Inputs inputs_of_spec(const std::string& spec);

/// The inputs where the model lies.
Inputs moved(Inputs inputs, const FrozenModel& model);

template <typename Work>
double seconds_of(const Work& work) {
  const auto began = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
}

}  // namespace diffmask::cli
