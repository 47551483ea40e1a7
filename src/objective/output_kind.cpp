#include "diffmask/objective/output_kind.hpp"

#include <ATen/ATen.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "diffmask/core/error.hpp"
#include "diffmask/core/shape.hpp"

namespace diffmask {
namespace {

at::Tensor last(const at::Tensor& output) { return output.select(1, -1); }

// Shape: (B, ...) -> (B) bool.
at::Tensor all_equal(const at::Tensor& a, const at::Tensor& b) {
  return a.eq(b).reshape({a.size(0), -1}).all(1);
}

at::Tensor is_right(const at::Tensor& decision, const at::Tensor& labels) {
  check_shape("labels", labels, decision.sizes());
  return decision.eq(labels).to(at::kDouble);
}

// log p of a decision between two, where y0 is what decides it. Shape: any, the same.
at::Tensor log_sigmoid_of(const at::Tensor& y, const at::Tensor& y0) {
  return at::log_sigmoid(at::where(y0.gt(0), y, -y));
}

// The values where the original is largest along a dimension.
at::Tensor at_largest(const at::Tensor& values, const at::Tensor& original, int64_t dim) {
  return values.gather(dim, original.argmax(dim, /*keepdim=*/true)).squeeze(dim);
}

OutputKind classes() {
  return {"classes",
          "(B, C), C >= 2",
          divergence::categorical,
          target::predicted,
          target::predicted_log_probability,
          same_prediction,
          [](const at::Tensor& y, const at::Tensor& labels) {
            return is_right(predicted_class(y), labels);
          }};
}

OutputKind logit() {
  return {"logit",
          "(B) or (B, 1)",
          divergence::bernoulli,
          target::predicted_logit,
          target::predicted_log_probability,
          same_prediction,
          [](const at::Tensor& y, const at::Tensor& labels) {
            return is_right(predicted_class(y), labels);
          }};
}

OutputKind regression() {
  return {
      "regression",
      "(B), (B, 1) or (B, K)",
      divergence::squared_error,
      target::scalar,
      [](const at::Tensor& y, const at::Tensor& y0) { return -divergence::squared_error(y0, y); },
      nullptr,
      [](const at::Tensor& y, const at::Tensor& labels) {
        check_shape("labels", labels, y.sizes());
        return (y - labels).abs().reshape({y.size(0), -1}).mean(1, false, at::kDouble);
      }};
}

OutputKind labels() {
  return {
      "labels",
      "(B, L)",
      divergence::multi_label,
      [](const at::Tensor& y, const at::Tensor& y0) { return at::where(y0.gt(0), y, -y).sum(1); },
      [](const at::Tensor& y, const at::Tensor& y0) { return log_sigmoid_of(y, y0).sum(1); },
      [](const at::Tensor& y, const at::Tensor& y0) { return all_equal(y.gt(0), y0.gt(0)); },
      [](const at::Tensor& y, const at::Tensor& labels) {
        return is_right(y.gt(0), labels).mean(1);
      }};
}

OutputKind tokens() {
  return {"tokens",
          "(B, T, C), C >= 2",
          divergence::tokens,
          [](const at::Tensor& y, const at::Tensor& y0) { return at_largest(y, y0, 2).mean(1); },
          [](const at::Tensor& y, const at::Tensor& y0) {
            return at_largest(at::log_softmax(y, 2), y0, 2).mean(1);
          },
          [](const at::Tensor& y, const at::Tensor& y0) {
            return all_equal(y.argmax(2), y0.argmax(2));
          },
          [](const at::Tensor& y, const at::Tensor& labels) {
            const at::Tensor right = is_right(y.argmax(2), labels), counts = labels.ne(-100);
            return (right * counts).sum(1) / counts.sum(1);
          }};
}

OutputKind next_token() {
  return {
      "next_token",
      "(B, T, C), C >= 2",
      divergence::next_token,
      [](const at::Tensor& y, const at::Tensor& y0) {
        return target::predicted(last(y), last(y0));
      },
      [](const at::Tensor& y, const at::Tensor& y0) {
        return target::predicted_log_probability(last(y), last(y0));
      },
      [](const at::Tensor& y, const at::Tensor& y0) { return same_prediction(last(y), last(y0)); },
      [](const at::Tensor& y, const at::Tensor& labels) {
        return is_right(predicted_class(last(y)), labels);
      }};
}

OutputKind span() {
  return {"span",
          "(B, T, 2)",
          divergence::span,
          [](const at::Tensor& y, const at::Tensor& y0) { return at_largest(y, y0, 1).sum(1); },
          [](const at::Tensor& y, const at::Tensor& y0) {
            return at_largest(at::log_softmax(y, 1), y0, 1).sum(1);
          },
          [](const at::Tensor& y, const at::Tensor& y0) {
            return all_equal(y.argmax(1), y0.argmax(1));
          },
          [](const at::Tensor& y, const at::Tensor& labels) {
            return is_right(y.argmax(1), labels).prod(1);
          }};
}

bool fits(const OutputKind& kind, const at::Tensor& y) {
  if (kind.name == "classes") return y.dim() == 2 && y.size(1) >= 2;
  if (kind.name == "logit") return is_single(y);
  if (kind.name == "regression") return y.dim() == 1 || y.dim() == 2;
  if (kind.name == "labels") return y.dim() == 2;
  if (kind.name == "span") return y.dim() == 3 && y.size(2) == 2;
  return y.dim() == 3 && y.size(2) >= 2;
}

}  // namespace

void OutputKind::check(const at::Tensor& output) const {
  require(fits(*this, output), "output",
          fmt::format("of shape {}, as its kind is '{}'", shape, name),
          shape_string(output.sizes()));
}

const std::vector<OutputKind>& output_kinds() {
  static const std::vector<OutputKind> all = {classes(), logit(),      regression(), labels(),
                                              tokens(),  next_token(), span()};
  return all;
}

const OutputKind& output_kind(const std::string& name) {
  std::vector<std::string> names;
  for (const OutputKind& kind : output_kinds()) {
    if (kind.name == name) return kind;
    names.push_back(kind.name);
  }
  throw ArgumentError("output kind", fmt::format("one of {}", fmt::join(names, ", ")),
                      with_nearest(name, names));
}

const OutputKind& told_kind(const at::Tensor& output) {
  const OutputKind& first = output_kinds().front();
  if (fits(first, output)) return first;
  std::vector<std::string> choices;
  for (const OutputKind& kind : output_kinds()) {
    if (fits(kind, output)) choices.push_back(kind.name);
  }
  require(!choices.empty(), "output",
          "of shape (B), (B, C) or (B, T, C): any other needs functions of its own",
          shape_string(output.sizes()));
  throw ArgumentError("output kind (--output-kind)",
                      fmt::format("named for an output of shape {}: one of {}",
                                  shape_string(output.sizes()), fmt::join(choices, ", ")),
                      "none");
}

}  // namespace diffmask
