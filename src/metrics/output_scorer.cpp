#include "diffmask/metrics/output_scorer.hpp"

#include <ATen/ATen.h>
#include <fmt/format.h>

#include <set>
#include <utility>

#include "diffmask/core/error.hpp"
#include "diffmask/metrics/classification.hpp"
#include "diffmask/objective/outputs.hpp"

namespace diffmask {

void OutputScorer::validate() const {
  require(!figures.empty(), "scorer.figures", "at least one", "none");
  std::set<std::string> names;
  for (const Figure& figure : figures) {
    require(!figure.name.empty(), "scorer.figures", "named", "an empty name");
    require(names.insert(figure.name).second, "scorer.figures", "each of a name of its own",
            figure.name);
  }
  require(read != nullptr, "scorer.read", "a function", "none");
  require(reduce != nullptr, "scorer.reduce", "a function", "none");
}

namespace scorer {

OutputScorer means(std::vector<Figure> figures,
                   std::function<at::Tensor(const MaskedOutput& of)> read) {
  const auto count = static_cast<int64_t>(figures.size());
  return {std::move(figures), std::move(read), [count](const at::Tensor& rows) {
            require(rows.size(1) == count, "scorer.read",
                    fmt::format("a function that gives {} numbers per example", count),
                    fmt::format("one that gives {}", rows.size(1)));
            const at::Tensor means = rows.nanmean(0).contiguous();
            const double* first = means.data_ptr<double>();
            return std::vector<double>(first, first + count);
          }};
}

OutputScorer classes(int64_t classes) {
  require(classes >= 2, "classes", ">= 2", classes);
  return {{{"accuracy", true}, {"macro_f1"}},
          [](const MaskedOutput& of) {
            require(of.batch.labels.defined(), "data", "a data set with labels", "one without");
            return at::stack({predicted_class(of.output), of.batch.labels}, 1);
          },
          [classes](const at::Tensor& rows) {
            const at::Tensor whole = rows.to(at::kLong);
            const at::Tensor predicted = whole.select(1, 0), labels = whole.select(1, 1);
            return std::vector<double>{accuracy(predicted, labels),
                                       macro_f1(predicted, labels, classes)};
          }};
}

OutputScorer agreement(Criterion criterion) {
  require(criterion != nullptr, "criterion", "a function", "none");
  return means({{"agreement", true}}, [criterion = std::move(criterion)](const MaskedOutput& of) {
    return criterion(of.output, of.original);
  });
}

}  // namespace scorer
}  // namespace diffmask
