#include "diffmask/metrics/subject.hpp"

#include <algorithm>
#include <utility>

#include "diffmask/core/error.hpp"
#include "diffmask/core/shape.hpp"

namespace diffmask {

Subject Subject::first(int64_t count) const {
  require(count >= 0, "count", ">= 0", count);
  require(data != nullptr, "data", "a data set", "a null pointer");
  if (count == 0 || count >= data->size()) return *this;
  Subject part = *this;
  part.data = std::make_shared<Subset>(data, iota(count));
  if (truth.defined()) part.truth = truth.narrow(0, 0, count);
  return part;
}

Comparison compare(const Subject& subject, const std::vector<ComparedMethod>& methods,
                   ComparisonOptions options) {
  require(subject.data != nullptr, "data", "a data set", "a null pointer");
  if (subject.truth.defined()) {
    check_shape("truth", subject.truth, {subject.data->size(), -1});
    options.truth = truth_rows(subject.truth);
  }
  if (subject.randomised != nullptr) options.randomised = subject.randomised;
  return compare(subject.model, *subject.data, methods, options);
}

}  // namespace diffmask
