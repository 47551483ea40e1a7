#include "attribution/propagation/operators.hpp"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "diffmask/core/file.hpp"

namespace diffmask {
namespace {

using Kind = OperatorKind;

// Names in the space "aten".
constexpr std::pair<Kind, std::string_view> kOperators[] = {
    {Kind::move,
     "view reshape _unsafe_view view_as reshape_as flatten unflatten permute transpose t "
     "numpy_T mT movedim swapaxes swapdims moveaxis squeeze unsqueeze expand expand_as "
     "broadcast_to repeat repeat_interleave contiguous clone alias detach to _to_copy "
     "type_as float double dropout feature_dropout alpha_dropout native_dropout cat concat "
     "concatenate stack hstack vstack split split_with_sizes chunk tensor_split unbind "
     "unsafe_chunk unsafe_split select slice narrow index_select index gather "
     "take_along_dim flip roll pad constant_pad_nd reflection_pad1d reflection_pad2d "
     "replication_pad1d replication_pad2d masked_fill where masked_select pixel_shuffle "
     "pixel_unshuffle channel_shuffle upsample_nearest1d upsample_nearest2d diagonal "
     "lift_fresh lift_fresh_copy view_copy positive im2col unfold tril triu "
     "_pack_padded_sequence _pad_packed_sequence identity"},
    {Kind::linear,
     "add sub rsub sum mean cumsum avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d "
     "adaptive_avg_pool2d adaptive_avg_pool3d _adaptive_avg_pool2d upsample_bilinear2d "
     "upsample_linear1d upsample_bicubic2d index_add scatter_add col2im"},
    {Kind::affine,
     "linear addmm baddbmm addbmm addmv mm bmm matmul mv dot einsum conv1d conv2d conv3d "
     "convolution _convolution conv_transpose1d conv_transpose2d conv_transpose3d"},
    {Kind::product, "mul multiply bilinear"},
    {Kind::quotient, "div divide true_divide"},
    {Kind::elementwise,
     "relu relu6 leaky_relu elu selu celu gelu silu mish sigmoid tanh hardtanh hardsigmoid "
     "hardswish softplus log_sigmoid exp exp2 expm1 log log1p log2 log10 sqrt rsqrt "
     "reciprocal pow square abs neg sin cos tan asin acos atan sinh cosh asinh acosh atanh "
     "erf erfc clamp clamp_min clamp_max threshold hardshrink softshrink prelu "
     "_prelu_kernel"},
    {Kind::batch_norm, "batch_norm _native_batch_norm_legit_no_training native_batch_norm"},
    {Kind::layer_norm, "layer_norm native_layer_norm"},
    {Kind::softmax, "softmax _softmax special_softmax"},
    {Kind::log_softmax, "log_softmax _log_softmax"},
    {Kind::attention, "scaled_dot_product_attention"},
    {Kind::maximum,
     "max_pool1d max_pool2d max_pool3d max_pool2d_with_indices max_pool1d_with_indices "
     "max_pool3d_with_indices adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d "
     "max amax maximum"},
    {Kind::minimum, "min amin minimum"},
};

std::unordered_map<std::string, Kind> make_table() {
  std::unordered_map<std::string, Kind> table = {{kSite, Kind::move}};
  for (const auto& [kind, names] : kOperators) {
    for (const std::string& name : split(names, ' ')) table.emplace("aten::" + name, kind);
  }
  return table;
}

// Where the input, the weights and the bias of an affine operator are; einsum's in its list.
struct Places {
  size_t x, w;
  std::optional<size_t> b;
};

bool is_listed(const Operation& operation) { return operation.step.operation == "aten::einsum"; }

// The inputs that places count.
c10::ArrayRef<c10::IValue> operands(const Operation& operation) {
  if (is_listed(operation)) return operation.inputs[1].toListRef();
  return operation.inputs;
}

Places places_of(const Operation& operation) {
  const std::string& name = operation.step.operation;
  if (name == "aten::addmm" || name == "aten::baddbmm" || name == "aten::addbmm" ||
      name == "aten::addmv") {
    return {1, 2, 0};
  }
  const auto inputs = operands(operation);
  const bool has_bias =
      !is_listed(operation) && inputs.size() > 2 && (inputs[2].isTensor() || inputs[2].isNone());
  return {0, 1, has_bias ? std::optional<size_t>(2) : std::nullopt};
}

bool is_varying(const Operation& operation, const c10::IValue& value) {
  return value.isTensor() &&
         std::any_of(operation.varying.begin(), operation.varying.end(),
                     [&](const at::Tensor& tensor) { return tensor.is_same(value.toTensor()); });
}

}  // namespace

OperatorKind kind_of(const Operation& operation) {
  static const auto table = make_table();
  const auto found = table.find(operation.step.operation);
  return found == table.end() ? Kind::unknown : found->second;
}

at::Tensor reduced(const at::Tensor& amount, const at::Tensor& like) {
  return amount.sizes() == like.sizes() ? amount : at::sum_to(amount, like.sizes());
}

Factors factors_of(const Operation& operation) {
  Factors factors;
  const auto inputs = operands(operation);
  const std::optional<size_t> b = places_of(operation).b;
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (!is_varying(operation, inputs[i])) continue;
    if (b && i == *b) {
      factors.bias = inputs[i].toTensor();
    } else {
      ++factors.count;
    }
  }
  return factors;
}

std::optional<Affine> Affine::of(const Operation& operation) {
  if (kind_of(operation) != Kind::affine || operation.varying.size() != 1 || operation.repeated) {
    return {};
  }
  const auto inputs = operands(operation);
  if (is_listed(operation) && inputs.size() != 2) return {};
  Affine affine;
  affine.operation_ = &operation;
  const Places places = places_of(operation);
  affine.x_ = places.x;
  affine.w_ = places.w;
  if (places.b && inputs[*places.b].isTensor()) affine.b_ = places.b;
  if (is_varying(operation, inputs[places.w])) std::swap(affine.x_, affine.w_);
  if (!is_varying(operation, inputs[affine.x_])) return {};
  return affine;
}

const at::Tensor& Affine::w() const { return operands(*operation_)[w_].toTensor(); }

at::Tensor Affine::b() const { return b_ ? operation_->inputs[*b_].toTensor() : at::Tensor(); }

Stack Affine::stack(const at::Tensor& x, const at::Tensor& w, const at::Tensor& b) const {
  Stack stack = operation_->inputs;
  if (is_listed(*operation_)) {
    stack[1] = x_ < w_ ? c10::List<at::Tensor>({x, w}) : c10::List<at::Tensor>({w, x});
    return stack;
  }
  stack[x_] = x;
  stack[w_] = w;
  if (b_) stack[*b_] = b.defined() ? b : at::zeros_like(this->b());
  return stack;
}

at::Tensor Affine::forward(const at::Tensor& x, const at::Tensor& w, const at::Tensor& b) const {
  const at::NoGradGuard no_grad;
  return operation_->call(stack(x, w, b))[0];
}

at::Tensor Affine::backward(const at::Tensor& w, const at::Tensor& given) const {
  const at::AutoGradMode with_gradients(true);
  const at::Tensor leaf = x().detach().requires_grad_(true);
  return torch::autograd::grad({operation_->call(stack(leaf, w, {}))[0]}, {leaf}, {given})[0];
}

std::optional<Attention> attention_of(const Stack& inputs) {
  const bool grouped = inputs.size() > 7 && inputs[7].isBool() && inputs[7].toBool();
  if (grouped) return {};
  Attention a;
  a.q = inputs[0].toTensor().detach();
  a.k = inputs[1].toTensor().detach();
  a.v = inputs[2].toTensor().detach();
  const bool scaled = inputs.size() > 6 && !inputs[6].isNone();
  a.scale =
      scaled ? inputs[6].toScalar().toDouble() : 1 / std::sqrt(static_cast<double>(a.q.size(-1)));
  a.scores = at::matmul(a.q, a.k.transpose(-2, -1)) * a.scale;
  const double none = -std::numeric_limits<double>::infinity();
  if (inputs[5].toBool()) {
    const at::Tensor later = at::ones({a.q.size(-2), a.k.size(-2)}, a.q.options().dtype(at::kBool));
    a.scores = a.scores.masked_fill(later.triu(1), none);
  }
  if (inputs[3].isTensor()) {
    const at::Tensor mask = inputs[3].toTensor().detach();
    a.scores = mask.scalar_type() == at::kBool ? a.scores.masked_fill(mask.logical_not(), none)
                                               : a.scores + mask;
  }
  a.weights = at::softmax(a.scores, -1);
  return a;
}

}  // namespace diffmask
