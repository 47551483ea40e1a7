#include "program/fused.hpp"

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <fmt/format.h>

#include <cmath>
#include <cstdint>
#include <utility>

namespace diffmask {
namespace {

// What is to be masked out, as a mask of attention scores (B, H, T, T). mask_type 0: (T, T), one
// for all examples; 1: (B, T), of keys; else: (B, H, T, T).
void shape_mask(Stack& stack) {
  const int64_t type = stack.at(1).isInt() ? stack[1].toInt() : 2;
  at::Tensor mask = stack[0].toTensor();
  if (type == 1) mask = mask.unsqueeze(1).unsqueeze(1);
  stack.assign(1, mask.to(at::kBool));
}

class Fused {
 public:
  Fused(ProgramBuilder& builder, const Step& step, const c10::FunctionSchema& schema)
      : builder_(builder), step_(step), schema_(schema) {}

  // (B, T, E) -> (B, T, E).
  Slot attention(Slot x, Slot mask, Slot mask_type, int64_t heads) {
    const Slot packed = call("linear", "", {x, given("qkv_weight"), given("qkv_bias")});
    const Slot chunks = call("chunk", "", {packed, number(3), number(-1)});
    const std::vector<Slot> parts = builder_.unpack(chunks, 3);
    std::vector<Slot> by_head;  // (B, H, T, E / H)
    for (const Slot part : parts) {
      by_head.push_back(call("transpose", "int", {unflatten(part, heads), number(1), number(2)}));
    }
    const Slot keys = call("transpose", "int", {by_head[1], number(-2), number(-1)});
    const double width = static_cast<double>(whole("embed_dim") / heads);
    const Slot query = call("div", "Scalar", {by_head[0], builder_.constant(std::sqrt(width))});
    Slot scores = call("matmul", "", {query, keys});
    if (!is_none(mask)) {
      const Slot out = builder_.compute("the mask of attention", shape_mask, {mask, mask_type});
      scores = call("masked_fill", "Scalar", {scores, out, builder_.constant(-INFINITY)});
    }
    const Slot weights = call("softmax", "int", {scores, number(-1), builder_.constant({})});
    const Slot seen = call("matmul", "", {weights, by_head[2]});
    const Slot together =
        call("flatten", "using_ints",
             {call("transpose", "int", {seen, number(1), number(2)}), number(2), number(3)});
    return call("linear", "", {together, given("proj_weight"), given("proj_bias")});
  }

  Slot encoder_layer() {
    const bool norm_first = builder_.value(given("norm_first")).toBool();
    const auto attend = [&](Slot x) {
      return attention(x, given("mask"), given("mask_type"), whole("num_heads"));
    };
    const auto forward = [&](Slot x) {
      const Slot inner = call("linear", "", {x, given("ffn_weight_1"), given("ffn_bias_1")});
      const bool gelu = builder_.value(given("use_gelu")).toBool();
      const Slot active =
          gelu ? call("gelu", "", {inner, builder_.constant("none")}) : call("relu", "", {inner});
      return call("linear", "", {active, given("ffn_weight_2"), given("ffn_bias_2")});
    };
    Slot x = given("src");
    if (norm_first) {
      x = add(x, attend(norm(x, "1")));
      return add(x, forward(norm(x, "2")));
    }
    x = norm(add(x, attend(x)), "1");
    return norm(add(x, forward(x)), "2");
  }

  Slot given(const std::string& argument) const {
    return step_.inputs.at(static_cast<size_t>(schema_.argumentIndexWithName(argument).value()));
  }
  int64_t whole(const std::string& argument) const {
    return builder_.value(given(argument)).toInt();
  }
  bool is_none(Slot slot) const {
    return builder_.is_constant(slot) && builder_.value(slot).isNone();
  }
  bool is_true(const std::string& argument) const {
    return builder_.value(given(argument)).toBool();
  }

 private:
  Slot number(int64_t value) { return builder_.constant(value); }
  Slot add(Slot a, Slot b) { return call("add", "Tensor", {a, b, number(1)}); }

  // (B, T, E) -> (B, T, H, E / H).
  Slot unflatten(Slot x, int64_t heads) {
    const Slot sizes = builder_.constant(c10::List<int64_t>({heads, -1}));
    return call("unflatten", "int", {x, number(2), sizes});
  }

  Slot norm(Slot x, const std::string& which) {
    const Slot shape = builder_.constant(c10::List<int64_t>({whole("embed_dim")}));
    return call("layer_norm", "",
                {x, shape, given("norm_weight_" + which), given("norm_bias_" + which), given("eps"),
                 builder_.constant(false)});
  }

  Slot call(const std::string& name, const std::string& overload, std::vector<Slot> inputs) {
    const auto op =
        c10::Dispatcher::singleton().findSchemaOrThrow(("aten::" + name).c_str(), overload.c_str());
    const auto& arguments = op.schema().arguments();
    for (size_t i = inputs.size(); i < arguments.size(); ++i) {
      inputs.push_back(builder_.constant(arguments[i].default_value().value()));
    }
    Step part{fmt::format("aten::{}, a part of {}", name, step_.name),
              [op](Stack& stack) { op.callBoxed(&stack); },
              std::move(inputs),
              {},
              "aten::" + name};
    return builder_.operate(std::move(part), op.schema(), {}, 1)[0];
  }

  ProgramBuilder& builder_;
  const Step& step_;
  const c10::FunctionSchema& schema_;
};

}  // namespace

std::optional<std::vector<Slot>> in_parts(ProgramBuilder& builder, const Step& step,
                                          const c10::FunctionSchema& schema) {
  Fused fused(builder, step, schema);
  if (schema.name() == "aten::_transformer_encoder_layer_fwd") {
    return std::vector<Slot>{fused.encoder_layer()};
  }
  // Its second output, the weights, is computed only where they are asked for.
  if (schema.name() == "aten::_native_multi_head_attention" && !fused.is_true("need_weights") &&
      fused.given("query") == fused.given("key") && fused.given("key") == fused.given("value")) {
    return std::vector<Slot>{fused.attention(fused.given("query"), fused.given("mask"),
                                             fused.given("mask_type"), fused.whole("num_head")),
                             builder.constant(at::Tensor())};
  }
  return {};
}

}  // namespace diffmask
