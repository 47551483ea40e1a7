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
///
/// Where examples cannot be chosen from the inputs, because they do not begin with the examples
/// (Batch::axes) or because the model on chosen inputs gives something else than it gave for those
/// examples (a mask (T, T) of all where T happens to be B), passes are of the whole batch
/// (FrozenModel::rows_of_whole).

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "diffmask/core/error.hpp"
#include "diffmask/model/frozen_model.hpp"
#include "diffmask/train/callback.hpp"

namespace diffmask {

struct PassOptions {
  int64_t max_batch = 64;  ///< rows per pass, >= 1

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

/// Rows cut into as few runs as memory allows.
class Chunks {
 public:
  /// Throws ArgumentError for options that are not valid.
  explicit Chunks(PassOptions options);

  /// Tells progress of rows that later calls of `each` will run, beside those that ran already.
  void expect(int64_t rows) { planned_ = count_ + rows; }

  /// Calls `run` with the ends of each chunk of 0 .. total - 1: of options.max_batch rows at most,
  /// of whole multiples of `multiple` where they may be. Where it runs out of memory it is called
  /// again with half the rows, so it has to keep its results for its end. ArgumentError where a
  /// single row takes more than options.memory; Cancelled.
  void each(int64_t total, int64_t multiple,
            const std::function<void(int64_t begin, int64_t end)>& run);

  int64_t count() const { return count_; }  ///< rows that ran
  double seconds() const;                   ///< since this was made
  const PassOptions& options() const { return options_; }

 private:
  int64_t fitting(int64_t bytes, int64_t multiple) const;
  void report() const;

  PassOptions options_;
  double began_;
  int64_t count_ = 0, planned_ = 0;
};

/// Whether two outputs are the same up to rounding, 1e-3 of the largest. Shape: any.
bool same_output(const at::Tensor& found, const at::Tensor& expected);

class Passes {
 public:
  /// Rows begin .. end - 1, with the recording that they resume.
  struct Chunk {
    const Recording& recording;
    int64_t begin, end;
  };

  /// Both have to outlive this; `axes` as Batch::axes. Throws ArgumentError for options that are not
  /// valid.
  Passes(const FrozenModel& model, const Recording& recording, PassOptions options,
         std::vector<int64_t> axes = {});

  void expect(int64_t rows) { chunks_.expect(rows); }

  /// Hands all rows, chunk by chunk (Chunks::each), to `work`, which resumes at `sites`. Shape:
  /// rows (N) int64, indices of examples.
  void each(const std::vector<std::string>& sites, const at::Tensor& rows,
            const std::function<void(const Chunk&)>& work);

  int64_t count() const { return chunks_.count(); }
  double seconds() const { return chunks_.seconds(); }
  const PassOptions& options() const { return chunks_.options(); }

 private:
  const Recording& recording_of(const std::vector<std::string>& sites, const at::Tensor& rows,
                                bool always_select);
  // Whether the recordings of chosen rows are those of chosen inputs.
  bool chooses_inputs(const std::vector<std::string>& sites);

  const FrozenModel& model_;
  const Recording& recording_;
  Chunks chunks_;
  std::vector<int64_t> axes_;
  std::vector<std::string> checked_sites_;
  bool chooses_inputs_ = false;
  std::vector<std::string> selected_sites_;
  at::Tensor selected_rows_;
  Recording selected_;
};

}  // namespace diffmask
