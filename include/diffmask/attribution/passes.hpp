#pragma once
/// \file
/// The passes that attribution methods need: many variants of a batch's states, cut into as few
/// resumed passes as memory allows.
///
///     row i:   f with another state in place of that of example rows[i]
///
/// A pass resumes a recording of its rows (FrozenModel::select_rows), so that variants of one
/// example and of many share it. Passes whose rows are the same examples share that recording, too:
/// the order "first variant of each example, second variant of each, ..." is the cheap one.

#include <functional>
#include <string>
#include <vector>

#include "diffmask/core/error.hpp"
#include "diffmask/model/frozen_model.hpp"
#include "diffmask/train/callback.hpp"

namespace diffmask {

struct PassOptions {
  int64_t max_batch = 64;  ///< rows a pass, >= 1

  /// Bytes that a pass may take beside the batch's own recording: what LibTorch's allocators hand
  /// out, measured on a pass of one row. As many rows as fit, max_batch at most; 0: no limit.
  int64_t memory = 0;

  /// Shown after each pass the rows done (step) and those known to come (steps); may cancel.
  Callback progress = {};

  void validate() const;
};

/// Thrown where the progress callback said stop.
class Cancelled : public Error {
 public:
  using Error::Error;
};

class Passes {
 public:
  /// Rows begin .. end - 1, with the recording that they resume.
  struct Chunk {
    const Recording& recording;
    int64_t begin, end;
  };

  /// Both have to outlive this. Throws ArgumentError for options that are not valid.
  Passes(const FrozenModel& model, const Recording& recording, PassOptions options);

  /// Tells progress of rows that later calls of `each` will run, beside those that ran already.
  void expect(int64_t rows) { planned_ = count_ + rows; }

  /// Hands all rows, chunk by chunk, to `work`, which resumes at `sites`. Where it runs out of
  /// memory it is called again with half the rows, so it has to keep its results for its end.
  /// ArgumentError where a single row takes more than options.memory; Cancelled.
  /// Shape: rows (N) int64, numbers of examples.
  void each(const std::vector<std::string>& sites, const at::Tensor& rows,
            const std::function<void(const Chunk&)>& work);

  int64_t count() const { return count_; }  ///< rows that ran
  double seconds() const;                   ///< since this was made
  const PassOptions& options() const { return options_; }

 private:
  const Recording& recording_of(const std::vector<std::string>& sites, const at::Tensor& rows,
                                bool always_select);
  int64_t fitting(int64_t bytes, int64_t largest) const;
  void report() const;

  const FrozenModel& model_;
  const Recording& recording_;
  PassOptions options_;
  double began_;
  int64_t count_ = 0, planned_ = 0;
  std::vector<std::string> selected_sites_;
  at::Tensor selected_rows_;
  Recording selected_;
};

}  // namespace diffmask
