#pragma once
/// \file
/// The seam everything is built on: record once, resume anywhere.
///
///     record(inputs, sites)           ->  f(x), the states h at the sites, what later steps need
///     resume(recording, site, state)  ->  f with that state in place of h;
///                                         only what depends on it runs
///
/// so that resume(r, s, r.state(s)) == r.output() for every site s (up to rounding where a model
/// has a shorter way to its output, as Stage::finish is). A recording is a value: there are no
/// hooks and no global state, so many threads may record and resume one model at once. The model is
/// never changed: parameters, buffers and flags are the same bits before and after, also when an
/// exception passes.

#include <ATen/core/Tensor.h>

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "diffmask/data/batch.hpp"
#include "diffmask/model/site.hpp"

namespace diffmask {

class FrozenModel;

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
  const FrozenModel* model_ = nullptr;
  at::Tensor output_;
  Inputs inputs_;
  std::map<std::string, at::Tensor> states_;
  std::shared_ptr<const void> memory_;
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

  /// Runs the model once without a graph and keeps the states at `sites`; none named: at all.
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
  /// recorded) are selected, not computed; what else later steps need is computed from these and
  /// the inputs. The examples of a batch have to be independent of one another. Shape: rows (N)
  /// int64, N >= 1.
  Recording select_rows(const Recording& recording, const at::Tensor& rows,
                        const std::vector<std::string>& sites) const;

  /// The model's parameters and buffers by name.
  virtual std::map<std::string, at::Tensor> tensors() const = 0;

  /// Where the model lies: its tensors' device, the CPU for a model without any.
  c10::Device device() const;

  /// A SHA-1 over names, shapes, dtypes and bytes of all parameters and buffers: tells whether an
  /// explainer was trained for this very model.
  std::string fingerprint() const;

 protected:
  FrozenModel() = default;

  /// What one pass of the model works on.
  struct Pass {
    const Inputs& inputs;
    Tap& tap;
    bool resumed;             ///< whether states are replaced
    std::vector<Site> sites;  ///< to be recorded, or replaced; in execution order
    /// What an original pass leaves for those that resume. A model that leaves some is asked for it
    /// by `only_memory`, too.
    std::shared_ptr<const void> memory = nullptr;
    bool only_memory = false;  ///< no output is computed; the tap gives the states of all `sites`
  };

  /// f(x), handing the state at each of the pass's sites to its tap in execution order and running
  /// on with what that gives back (it may be handed others too). In a resumed pass the sites before
  /// the first do not matter: what runs before may be skipped (the tap is then handed an undefined
  /// state) or run without a graph.
  virtual at::Tensor run(Pass& pass) const = 0;

  std::vector<Site> sites_;

 private:
  std::vector<Site> in_order(const std::vector<std::string>& names) const;
  void check_owned(const Recording& recording) const;
};

}  // namespace diffmask
