#pragma once
/// \file
/// diffmask attribute: any of the methods on a model in a file; private.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cli/model_file.hpp"
#include "cli/outputs.hpp"
#include "diffmask/attribution/methods.hpp"
#include "diffmask/format/safetensors.hpp"
#include "diffmask/mask/fill.hpp"
#include "diffmask/mask/positions.hpp"
#include "diffmask/program/program.hpp"

namespace diffmask::cli {

/// How long methods learn.
struct LearningOptions {
  int64_t training_steps = 0, example_steps = 0;  ///< 0: the method's own default

  void add_to(CLI::App& command);
};

struct AttributeOptions {
  std::string method, baseline = "zero", out;
  OutputOptions outputs;
  int64_t steps = 50, beam = 5, max_batch = 64, memory_mb = 0;
  double epsilon = 0.1;  ///< of the constraint D <= epsilon
  uint64_t seed = 0;
  bool features = false, nan_to_zero = false;
  LearningOptions learning;
};

void add_attribute(CLI::App& command, ModelOptions& model, AttributeOptions& options);

/// Where the positions of each site's state are. Of several sites, those are left out, and named on
/// stderr, of which that cannot be told.
using Layouts = std::map<std::string, Positions>;
Layouts layouts_of(const Program& model, const Recording& recording,
                   const std::vector<std::string>& sites, const OutputOptions& options);

/// What replaces a state: zero, the mean over the batch's states, another example's state, or the
/// site's tensor in a file.
Fill fill_of(const std::string& baseline, uint64_t seed, const Layouts& layouts);

/// The batch at a recorded site. The mask, (B, P) bool, counts where it has the shape of the site's
/// positions; all positions do elsewhere, or where it is undefined.
Batch batch_at(const Program& model, const Recording& recording, const at::Tensor& mask,
               const std::string& site, const Positions& positions);

/// The sites whose positions the mask does not have: all of theirs count. They are named on stderr.
/// ArgumentError, with all shapes, where that is all of them.
std::vector<std::string> sites_without_mask(const at::Tensor& mask, const Recording& recording,
                                            const std::vector<std::string>& sites,
                                            const Layouts& layouts);

/// What scores were made from and how, to be stored with them: the model's fingerprint and file,
/// sites, method, target, baseline, mask, seed, and the library's version.
nlohmann::json provenance(const Program& model, const std::vector<std::string>& sites,
                          const std::string& target, const ModelOptions& files,
                          const AttributeOptions& options);

/// Explains the model's output on the inputs at each of the sites, writes one tensor per site to
/// options.out, with the provenance as metadata, and returns a summary. The mask says which
/// positions count, at sites that have as many. Methods that need training data learn from the same
/// inputs.
nlohmann::json attribute(const std::shared_ptr<const Program>& model, const Inputs& inputs,
                         const at::Tensor& mask, std::vector<std::string> sites,
                         const ModelOptions& files, const AttributeOptions& options);

/// Reads the files, explains and prints the summary.
int run_attribute(const ModelOptions& model, const AttributeOptions& options);

}  // namespace diffmask::cli
