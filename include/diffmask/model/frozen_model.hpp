#pragma once
/// \file
/// The seam everything is built on: record once, resume anywhere.
///
///     record(inputs, sites)           ->  f(x), the states h at the sites, what later steps need
///     resume(recording, site, state)  ->  f with that state in place of h;
///                                         only what depends on it runs
///
///     const Recording recording = model.record({words, mask}, {"encoder.3"});
///     const at::Tensor h = recording.state("encoder.3");
///     const at::Tensor without = model.resume(recording, "encoder.3", at::zeros_like(h));
///
/// resume(r, s, r.state(s)) == r.output() for every site s (up to rounding where a model has a
/// shorter way to its output, as Stage::finish is). A recording is a value: there are no hooks and
/// no global state, so many threads may record and resume one model at once. The model is never
/// changed: parameters, buffers and flags are the same bits before and after, also when an
/// exception is thrown.

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "diffmask/data/batch.hpp"
#include "diffmask/model/site.hpp"

namespace diffmask {

class FrozenModel;
class Program;

/// One original pass of a model, from which any number of passes resume.
class Recording {
 public:
  /// f(x), without a graph.
  const at::Tensor& output() const { return output_; }
  const Inputs& inputs() const { return inputs_; }

  /// h at a recorded site, without a graph; ArgumentError, with the nearest names, at any other.
  const at::Tensor& state(const std::string& site) const;
  bool has(const std::string& site) const { return states_.contains(site); }

 private:
  friend class FrozenModel;
  uint64_t model_ = 0;  // FrozenModel::id_ of the model that was recorded; 0: none
  at::Tensor output_;
  Inputs inputs_;
  std::map<std::string, at::Tensor> states_;
  std::shared_ptr<const void> memory_;
  std::shared_ptr<const Recording> whole_;  // where rows_ of it are resumed by whole passes
  at::Tensor rows_;
};

/// A model whose hidden states can be recorded and replaced.
class FrozenModel {
 public:
  virtual ~FrozenModel() = default;
  FrozenModel(const FrozenModel&) = delete;
  FrozenModel& operator=(const FrozenModel&) = delete;

  /// Every site, in execution order.
  const std::vector<Site>& sites() const { return sites_; }
  std::vector<std::string> site_names() const;

  /// The names that match a pattern, in execution order: `*` stands for any characters but dots,
  /// `**` for any at all, `?` for one. ArgumentError, with the nearest names, where none does.
  std::vector<std::string> select(const std::string& pattern) const;

  /// The names that a regular expression (ECMAScript, the whole name) matches; ArgumentError where
  /// none does, or where it is not one.
  std::vector<std::string> select_regex(const std::string& expression) const;

  /// The site of this name; ArgumentError, with the nearest names, where there is none.
  const Site& site(const std::string& name) const;

  /// Runs the model once without a graph and keeps the states at `sites`; if empty, at all sites.
  Recording record(const Inputs& inputs, const std::vector<std::string>& sites = {}) const;

  /// Runs what depends on the site, with `state` in place of what was there. Gradients flow to
  /// `state` if it requires them. Ask for them by torch::autograd::grad: backward() would also add
  /// to the gradients of the model's own parameters, where those require any.
  at::Tensor resume(const Recording& recording, const std::string& site,
                    const at::Tensor& state) const;

  /// The same with several states replaced at once.
  at::Tensor resume(const Recording& recording, std::vector<Replacement> replacements) const;

  /// The recording of inputs[rows], rows of the batch in any number and order, so that many
  /// variants of one example are resumed in one pass. Output and states (of `sites`, which were
  /// recorded) are selected, not computed; what else later passes need is computed from these and
  /// the inputs. The examples of a batch have to be independent of one another. `axes` says where
  /// the examples lie in the inputs, as Batch::axes does. Shape: rows (N) int64, N >= 1.
  Recording select_rows(const Recording& recording, const at::Tensor& rows,
                        const std::vector<std::string>& sites,
                        const std::vector<int64_t>& axes = {}) const;

  /// The same without choosing from the inputs, for models of which that cannot be done: a resumed
  /// pass runs the whole batch, as often as the most frequent row is among the rows, with the other
  /// examples as they were recorded. Slower where rows are few.
  Recording rows_of_whole(const Recording& recording, const at::Tensor& rows,
                          const std::vector<std::string>& sites) const;

  /// This model as a list of operator calls, for methods that go through it operator by operator
  /// (DeepLIFT, LRP); valid for `inputs`, and for others where the model takes the same path on
  /// them. Its sites bear the names of this model's, its inputs are this model's. ArgumentError
  /// unless overridden: a model that holds a NativeModel or a Program can give that one's.
  virtual std::shared_ptr<const Program> program(const Inputs& inputs) const;

  /// The model's parameters and buffers by name.
  virtual std::map<std::string, at::Tensor> tensors() const = 0;

  /// Where the model lies: its tensors' device, the CPU for a model without any.
  c10::Device device() const;

  /// A SHA-1 over names, shapes, dtypes and bytes of all parameters and buffers: tells whether an
  /// explainer was trained for this very model.
  std::string fingerprint() const;

 protected:
  FrozenModel();

  /// What one pass of the model works on.
  struct Pass {
    const Inputs& inputs;     ///< x
    Tap& tap;                 ///< takes a state, gives the one to run on with
    std::vector<Site> sites;  ///< S, in execution order
    /// M, of the model's own making: what an original pass leaves to those that resume. Null where
    /// a model leaves nothing.
    std::shared_ptr<const void> memory = nullptr;
  };

  /// The one function that each kind of model has to write: f(x), with every state in S handed to
  /// the tap in execution order, and what that gives back in its place.
  ///
  ///     y = f(x),  h_s <- tap(s, h_s)  for each s in S;  M <- what resume_from needs beside x
  ///
  /// Other sites may be handed to the tap as well, which gives them back as they are.
  virtual at::Tensor run(Pass& pass) const = 0;

  /// Where every h_s of S is replaced. The tap knows the states: it is handed h_s or, where that
  /// was skipped, an undefined tensor.
  ///
  ///     y = f(x | h_s := tap(s, h_s) for s in S),  M as `run` left it for x
  ///
  /// What S does not change may be skipped, or run without a graph. Unless overridden: `run`.
  virtual at::Tensor resume_from(Pass& pass) const;

  /// What `run` would leave for x, with no output computed and S known: tap(s, undefined) gives
  /// h_s. Only called where `run` left something. Unless overridden: nothing.
  ///
  ///     M <- M(x | h_s = tap(s, undefined) for s in S)
  virtual void carry(Pass& pass) const;

  std::vector<Site> sites_;

 private:
  std::vector<Site> in_order(const std::vector<std::string>& names) const;
  void check_recorded_here(const Recording& recording) const;
  void check_rows(const Recording& recording, const at::Tensor& rows) const;
  at::Tensor resume_whole(const Recording& recording,
                          const std::vector<Replacement>& replacements) const;

  const uint64_t id_;  // no other model of this process has or had it, so recordings can't dangle
};

}  // namespace diffmask
