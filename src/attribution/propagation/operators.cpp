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
#include <unordered_set>
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
     "_pack_padded_sequence _pad_packed_sequence identity detach_copy rot90 unsqueeze_copy "
     "copy copy_ index_put index_put_ _index_put_impl_ _unsafe_index _unsafe_index_put put put_ "
     "index_copy index_copy_ index_fill index_fill_ masked_fill_ masked_scatter masked_scatter_ "
     "fill fill_ zero_ scatter scatter_ slice_scatter select_scatter diagonal_scatter "
     "as_strided_scatter slice_inverse view_as_real view_as_complex real imag complex conj "
     "_conj _neg_view resolve_conj resolve_neg conj_physical fft_fftshift fft_ifftshift "
     "atleast_1d atleast_2d atleast_3d meshgrid column_stack dstack row_stack block_diag "
     "circular_pad pad_sequence half bfloat16 cdouble cfloat"},
    {Kind::linear,
     "add sub rsub sum mean cumsum avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d "
     "adaptive_avg_pool2d adaptive_avg_pool3d _adaptive_avg_pool2d upsample_bilinear2d "
     "upsample_linear1d upsample_bicubic2d upsample_trilinear3d _upsample_bilinear2d_aa index_add "
     "scatter_add col2im nanmean nansum trace diff fft_fft fft_ifft fft_rfft "
     "fft_irfft fft_hfft fft_ihfft fft_fft2 fft_ifft2 fft_rfft2 fft_irfft2 fft_fftn fft_ifftn "
     "fft_rfftn fft_irfftn _fft_r2c _fft_c2r _fft_c2c stft istft"},
    {Kind::affine,
     "linear addmm baddbmm addbmm addmv mm bmm matmul mv dot einsum conv1d conv2d conv3d "
     "convolution _convolution conv_transpose1d conv_transpose2d conv_transpose3d"},
    {Kind::product, "mul multiply bilinear"},
    {Kind::quotient, "div divide true_divide"},
    {Kind::elementwise,
     "relu relu6 leaky_relu elu selu celu gelu silu mish sigmoid tanh hardtanh hardsigmoid "
     "hardswish softplus log_sigmoid exp exp2 expm1 log log1p log2 log10 sqrt rsqrt "
     "reciprocal pow square abs neg negative sin cos tan asin acos atan sinh cosh asinh acosh "
     "atanh "
     "erf erfc clamp clamp_min clamp_max clip threshold hardshrink softshrink prelu logit "
     "_prelu_kernel sign sgn floor ceil round trunc fix frac heaviside nan_to_num "
     "float_power"},
    {Kind::batch_norm, "batch_norm _native_batch_norm_legit_no_training native_batch_norm"},
    {Kind::normalised,
     "layer_norm native_layer_norm group_norm native_group_norm instance_norm rms_norm "
     "_fused_rms_norm"},
    {Kind::deviation, "std std_mean norm linalg_norm linalg_vector_norm frobenius_norm"},
    {Kind::variance, "var var_mean"},
    {Kind::softmax, "softmax _softmax special_softmax"},
    {Kind::log_softmax, "log_softmax _log_softmax"},
    {Kind::gated, "glu"},
    {Kind::attention, "scaled_dot_product_attention"},
    {Kind::maximum,
     "max_pool1d max_pool2d max_pool3d max_pool2d_with_indices max_pool1d_with_indices "
     "max_pool3d_with_indices adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d "
     "max amax maximum"},
    {Kind::minimum, "min amin minimum"},
};

// Besides the kinds elementwise, product and quotient.
constexpr std::string_view
    kSteps =
        "gt ge lt le eq ne greater greater_equal less less_equal not_equal logical_and logical_or "
        "logical_not logical_xor bitwise_and bitwise_or bitwise_not bitwise_xor __and__ __or__ "
        "__xor__ isnan isinf isfinite isposinf isneginf sign sgn floor ceil round trunc fix "
        "heaviside bool int long",
    kChoices =
        "where masked_fill masked_fill_ maximum minimum max min add sub rsub neg to _to_copy "
        "mul multiply type_as float double clone alias detach contiguous index_put index_put_ lerp "
        "fmax fmin";

std::unordered_set<std::string> names_in(std::string_view list) {
  std::unordered_set<std::string> names;
  for (const std::string& name : split(list, ' ')) names.insert("aten::" + name);
  return names;
}

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
  if (found == table.end()) return Kind::unknown;
  const bool accumulates =
      operation.step.operation.find("put") != std::string::npos &&
      std::any_of(operation.inputs.begin(), operation.inputs.end(),
                  [](const c10::IValue& i) { return i.isBool() && i.toBool(); });
  return accumulates ? Kind::linear : found->second;
}

bool is_step(const Operation& operation) {
  static const auto steps = names_in(kSteps);
  return steps.contains(operation.step.operation);
}

bool is_elementwise(const Operation& operation, const std::vector<at::Tensor>& tensors,
                    const at::Tensor& y) {
  static const auto choices = names_in(kChoices);
  const Kind kind = kind_of(operation);
  const bool named = kind == Kind::elementwise || kind == Kind::quotient || is_step(operation) ||
                     choices.contains(operation.step.operation);
  if (!named) return false;
  return std::all_of(tensors.begin(), tensors.end(), [&](const at::Tensor& tensor) {
    return tensor.sizes() == y.sizes() || at::is_expandable_to(tensor.sizes(), y.sizes());
  });
}

std::optional<Normalisation> normalisation_of(const Operation& operation) {
  const Stack& inputs = operation.inputs;
  const std::string& name = operation.step.operation;
  const bool single = operation.varying.size() == 1 && !operation.repeated;
  if (!single || !inputs[0].toTensor().is_same(operation.varying[0])) return {};
  const at::Tensor x = inputs[0].toTensor();
  const auto weights = [&](size_t i, bool of_channels) {
    if (!inputs[i].isTensor() || !inputs[i].toTensor().defined()) return at::Tensor();
    std::vector<int64_t> shape(static_cast<size_t>(x.dim()), 1);
    shape[1] = -1;
    return of_channels ? inputs[i].toTensor().view(shape) : inputs[i].toTensor();
  };
  if (name == "aten::group_norm") {
    return Normalisation{x.size(0) * inputs[1].toInt(), inputs[4].toDouble(), true,
                         weights(2, true)};
  }
  if (name == "aten::native_group_norm") {
    return Normalisation{x.size(0) * inputs[6].toInt(), inputs[7].toDouble(), true,
                         weights(1, true)};
  }
  if (name == "aten::instance_norm") {
    if (!inputs[5].toBool()) return {};
    return Normalisation{x.size(0) * x.size(1), inputs[7].toDouble(), true, weights(1, true)};
  }
  int64_t features = 1;
  for (const int64_t size : inputs[1].toIntVector()) features *= size;
  const int64_t rows = features ? x.numel() / features : 0;
  if (name.ends_with("layer_norm")) {
    return Normalisation{rows, inputs[4].toDouble(), true, weights(2, false)};
  }
  const double smallest = x.scalar_type() == at::kDouble ? std::numeric_limits<double>::epsilon()
                                                         : std::numeric_limits<float>::epsilon();
  return Normalisation{rows, inputs[3].isNone() ? smallest : inputs[3].toDouble(), false,
                       weights(2, false)};
}

at::Tensor without_nan(const at::Tensor& tensor) { return tensor.masked_fill(tensor.isnan(), 0); }

bool has_nan(const std::vector<at::Tensor>& tensors) {
  return std::any_of(tensors.begin(), tensors.end(),
                     [](const at::Tensor& tensor) { return tensor.isnan().any().item<bool>(); });
}

Operation without_nan(const Operation& operation) {
  std::vector<at::Tensor> varying;
  for (const at::Tensor& tensor : operation.varying)
    varying.push_back(without_nan(tensor.detach()));
  Operation result = operation.at(varying);
  const at::AutoGradMode with_gradients(true);
  for (at::Tensor& output : result.outputs) output = without_nan(output);
  return result;
}

std::string described(const Step& step) {
  return step.module.empty() ? step.name : step.name + " in '" + step.module + "'";
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

std::optional<Affine> Affine::of_sum(const Operation& operation, const Origin& product) {
  const std::string& name = operation.step.operation;
  const bool adds = name == "aten::add", subtracts = name == "aten::sub";
  if (!(adds || subtracts) || operation.varying.size() != 1 || operation.repeated ||
      operation.outputs[0].sizes() != operation.varying[0].sizes() || !product.operation) {
    return {};
  }
  auto affine = of(*product.operation);
  if (!affine || affine->b_) return {};
  const bool first = operation.inputs[0].isTensor() &&
                     operation.inputs[0].toTensor().is_same(operation.varying[0]);
  const double alpha = operation.inputs.size() > 2 && operation.inputs[2].isScalar()
                           ? operation.inputs[2].toScalar().toDouble()
                           : 1;
  if (!first && (subtracts || alpha != 1)) return {};
  const c10::IValue& other = operation.inputs[first ? 1 : 0];
  const at::Tensor& y = operation.outputs[0];
  const at::Tensor shift = other.isTensor() ? other.toTensor().detach()
                                            : at::scalar_tensor(other.toScalar(), y.options());
  affine->shift_ = (subtracts ? -alpha : alpha) * shift;
  affine->moves_ = &product.moves;
  return affine;
}

Origin origin_of(const at::Tensor& tensor, const Makers& makers) {
  Origin origin{makers(tensor)};
  while (origin.operation) {
    const Operation& operation = *origin.operation;
    const bool like = operation.step.operation.ends_with("_as");  // another tensor's shape
    const bool moves = kind_of(operation) == Kind::move &&
                       (operation.varying.size() == 1 || like) && !operation.repeated &&
                       operation.outputs.size() == 1 &&
                       operation.outputs[0].numel() >= operation.varying[0].numel();
    if (!moves) break;
    auto before = makers(operation.varying[0]);
    origin.moves.push_back(std::move(*origin.operation));
    origin.operation.reset();
    if (before) origin.operation.emplace(std::move(*before));
  }
  return origin;
}

bool is_inverse(const at::Tensor& tensor, const Makers& makers) {
  const auto operation = origin_of(tensor, makers).operation;
  if (!operation) return false;
  const std::string& name = operation->step.operation;
  if (name == "aten::rsqrt" || name == "aten::reciprocal") return true;
  const c10::IValue& last = operation->inputs.back();
  if (name == "aten::pow") return last.isScalar() && last.toScalar().toDouble() < 0;
  const c10::IValue& first = operation->inputs[0];
  return kind_of(*operation) == Kind::quotient && operation->varying.size() == 1 &&
         !(first.isTensor() && first.toTensor().is_same(operation->varying[0]));
}

bool is_gate(const at::Tensor& tensor, const Makers& makers, const Chosen& chosen) {
  const auto operation = origin_of(tensor, makers).operation;
  if (!operation) return false;
  const std::string& name = operation->step.operation;
  if (name == "aten::sigmoid" || name == "aten::hardsigmoid") return !chosen(*operation);
  if (name != "aten::rsub" && name != "aten::sub") return false;
  const c10::IValue& from = operation->inputs[name == "aten::rsub" ? 1 : 0];
  const bool of_one = from.isTensor() ? from.toTensor().eq(1).all().item<bool>()
                                      : from.isScalar() && from.toScalar().equal(1);
  return of_one && is_gate(operation->varying[0], makers, chosen);
}

at::Tensor Affine::b() const {
  if (shift_.defined()) return shift_;
  return b_ ? operation_->inputs[*b_].toTensor() : at::Tensor();
}

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

at::Tensor Affine::run(const at::Tensor& x, const at::Tensor& w, const at::Tensor& b) const {
  at::Tensor y = operation_->call(stack(x, w, b))[0];
  if (!moves_) return y;
  for (size_t i = moves_->size(); i-- > 0;) {
    const Operation& move = (*moves_)[i];
    Stack inputs;
    for (const c10::IValue& input : move.inputs) {
      inputs.push_back(map_tensors(input, [&](const at::Tensor& tensor) {
        return tensor.is_same(move.varying[0]) ? y : tensor;
      }));
    }
    y = move.call(std::move(inputs))[0];
  }
  return b.defined() ? y + b : y;
}

at::Tensor Affine::forward(const at::Tensor& x, const at::Tensor& w, const at::Tensor& b) const {
  const at::NoGradGuard no_grad;
  return run(x, w, b);
}

at::Tensor Affine::backward(const at::Tensor& w, const at::Tensor& given) const {
  const at::AutoGradMode with_gradients(true);
  const at::Tensor leaf = x().detach().requires_grad_(true);
  return torch::autograd::grad({run(leaf, w, {})}, {leaf}, {given})[0];
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
  const at::Tensor blind = a.scores.eq(none).all(-1, true);  // sees nothing
  a.weights = at::softmax(a.scores, -1).masked_fill(blind, 0);
  return a;
}

}  // namespace diffmask
