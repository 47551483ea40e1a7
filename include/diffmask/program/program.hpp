#pragma once
/// \file
/// Programs: what a TorchScript archive or an exported program becomes, a flat list of operator
/// calls over value slots.
///
///     step:  slots[outputs] = operator(slots[inputs])
///
/// Every slot is written once and never changed: in-place operators of the original are replaced by
/// their functional forms, or work on copies, when the program is built. So each value depends on
/// earlier ones only, and a pass computes just what is asked for and is not known yet:
///
///     record   runs what the output and the sites asked for depend on
///     resume   runs what depends on the replaced sites and is needed for the output; the rest was
///              kept by the recording, or is computed again if another site was recorded
///
/// A value is freed after its last use. A program is immutable, so threads share it. Parameters are
/// used detached: gradients flow to replaced states alone.
///
///     const std::shared_ptr<Program> model = load_program("bert.pt2");
///     const Recording recording = model->record({words}, model->select("encoder.layer.*"));
///     fmt::print("{} operator calls, {} sites", model->steps(), model->sites().size());

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "diffmask/model/frozen_model.hpp"

namespace diffmask {

struct ProgramGraph;

struct ProgramOptions {
  /// Which tensor of a structured output f(x) is: "[0]", "[1][0]" or "[logits]"; empty: the first.
  std::string output = {};
  bool module_inputs = false;      ///< the tensor inputs of modules are sites too: "encoder:input"
  c10::Device device = c10::kCPU;  ///< where the weights of a model from a file are put
  /// The model's tensor inputs are sites too: "input0", "input1", ... In a model that has no other
  /// sites they always are.
  bool inputs = false;
  /// Runs operators that draw random numbers, or that update statistics, as they do in training.
  /// Each draws from a seed of its own, set for each pass, so that passes repeat; statistics are
  /// updated on copies. By default a model with such operators is refused, and they are named.
  bool allow_chance = false;
  uint64_t seed = 0;  ///< of what is drawn where allow_chance is set
  /// TorchScript: the method to explain.
  std::string method = "forward";
  /// TorchScript: the number of tensors that will be given. Optional inputs and those with defaults
  /// are filled in order, a list takes what is left. -1: those that the method does not run without.
  int64_t given = -1;
};

class Program : public FrozenModel {
 public:
  explicit Program(std::shared_ptr<const ProgramGraph> graph);
  ~Program() override;

  std::map<std::string, at::Tensor> tensors() const override;

  /// A program of the same steps and sites.
  std::shared_ptr<const Program> program(const Inputs& inputs) const override;

  /// The number of operator calls.
  int64_t steps() const;

  /// The steps that draw random numbers or update statistics, "aten::dropout at encoder, which draws
  /// random numbers"; only where ProgramOptions::allow_chance is set are there any.
  std::vector<std::string> chance() const;

  /// What it is made of; its header is private.
  const ProgramGraph& graph() const { return *graph_; }

 protected:
  at::Tensor run(Pass& pass) const override;
  at::Tensor resume_from(Pass& pass) const override;
  void carry(Pass& pass) const override;

 private:
  std::shared_ptr<const ProgramGraph> graph_;
};

}  // namespace diffmask
