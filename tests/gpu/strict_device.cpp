// A stand-in for a GPU: DIFFMASK_DEVICE=hpu, whose memory is the processor's and whose kernels are
// its, too. What mixes tensors or generators of both is an error, and what reads its memory outside a
// kernel crashes, as on a GPU, so that the rule for devices is tested where there is none. Written for
// LibTorch 2.13 and Linux.
#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/EmptyTensor.h>
#include <ATen/NativeFunctions.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/detail/HPUHooksInterface.h>
#include <ATen/native/CPUFallback.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <sys/mman.h>
#include <torch/library.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace {

constexpr auto kDevice = c10::DeviceType::HPU;

// Pages that may be touched while somebody holds an Access alone.
class Memory final : public c10::Allocator {
 public:
  Memory()
      : begin_(static_cast<char*>(mmap(nullptr, kReserved, PROT_NONE,
                                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0))) {
    TORCH_CHECK(begin_ != MAP_FAILED, "no address space for the stand-in's memory");
  }
  c10::DataPtr allocate(size_t bytes) override {
    const std::lock_guard lock(mutex_);
    char* data = begin_ + used_;
    used_ += (bytes / kPage + 1) * kPage;
    TORCH_CHECK(used_ <= kReserved, "the stand-in's memory is used up");
    sizes_[data] = used_ - static_cast<size_t>(data - begin_);
    if (users_ > 0) protect(PROT_READ | PROT_WRITE);
    return {data, data, raw_deleter(), c10::Device(kDevice, 0)};
  }
  c10::DeleterFnPtr raw_deleter() const override;
  void copy_data(void* to, const void* from, size_t count) const override;

  void open() {
    const std::lock_guard lock(mutex_);
    if (users_++ == 0) protect(PROT_READ | PROT_WRITE);
  }
  void close() {
    const std::lock_guard lock(mutex_);
    if (--users_ == 0) protect(PROT_NONE);
  }
  void free(void* data) {
    const std::lock_guard lock(mutex_);
    madvise(data, sizes_.at(data), MADV_DONTNEED);
    sizes_.erase(data);
  }

 private:
  static constexpr size_t kPage = 4096, kReserved = size_t{1} << 38;  // never used twice

  void protect(int how) {
    TORCH_CHECK(used_ == 0 || mprotect(begin_, used_, how) == 0, "mprotect: ", strerror(errno));
  }

  std::mutex mutex_;
  char* begin_;
  size_t used_ = 0;
  int users_ = 0;
  std::map<void*, size_t> sizes_;
};

Memory memory;
REGISTER_ALLOCATOR(kDevice, &memory);

struct Access {
  Access() { memory.open(); }
  ~Access() { memory.close(); }
  Access(const Access&) = delete;
};

c10::DeleterFnPtr Memory::raw_deleter() const {
  return [](void* data) { memory.free(data); };
}

void Memory::copy_data(void* to, const void* from, size_t count) const {
  const Access access;
  std::memcpy(to, from, count);
}

// Whatever is called has run when the call returns, so there is no event to wait for.
struct Guard final : c10::impl::NoOpDeviceGuardImpl<kDevice> {
  c10::Device exchangeDevice(c10::Device) const override { return c10::Device(kDevice, 0); }
  c10::Device getDevice() const override { return c10::Device(kDevice, 0); }
  c10::Stream getStream(c10::Device device) const noexcept override {
    return c10::Stream(c10::Stream::DEFAULT, device);
  }
  void record(void**, const c10::Stream&, const c10::DeviceIndex,
              const c10::EventFlag) const override {}
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
};

C10_REGISTER_GUARD_IMPL(HPU, Guard);

// The processor's generator under the device's name.
struct Generator final : c10::GeneratorImpl {
  explicit Generator(at::Generator inner)
      : c10::GeneratorImpl(c10::Device(kDevice, 0), c10::DispatchKeySet(c10::DispatchKey::HPU)),
        inner(std::move(inner)) {}
  void set_current_seed(uint64_t seed) override { inner.set_current_seed(seed); }
  void set_offset(uint64_t) override {}
  uint64_t get_offset() const override { return 0; }
  uint64_t current_seed() const override { return inner.current_seed(); }
  uint64_t seed() override { return inner.seed(); }
  void set_state(const c10::TensorImpl& state) override {
    inner.unsafeGetGeneratorImpl()->set_state(state);
  }
  c10::intrusive_ptr<c10::TensorImpl> get_state() const override {
    return inner.unsafeGetGeneratorImpl()->get_state();
  }
  Generator* clone_impl() const override { return new Generator(inner.clone()); }

  at::Generator inner;
};

struct HPUHooks final : at::HPUHooksInterface {
  explicit HPUHooks(at::HPUHooksArgs) {}
  void init() const override {}
  bool hasHPU() const override { return true; }
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  const at::Generator& getDefaultGenerator(c10::DeviceIndex) const override {
    static const at::Generator generator =
        at::make_generator<Generator>(at::make_generator<at::CPUGeneratorImpl>());
    return generator;
  }
};

}  // namespace

namespace at {
REGISTER_HPU_HOOKS(HPUHooks);
}

namespace {

// The same memory as a tensor of the processor.
at::Tensor on_cpu(const at::Tensor& t) {
  if (t.is_cpu()) return t;
  return at::from_blob(t.data_ptr(), t.sizes(), t.strides(), at::TensorOptions(t.scalar_type()));
}

// What may read the processor's tensors beside a GPU's.
bool may_mix(const std::string& name) {
  static const std::set<std::string> names = {"aten::copy_",
                                              "aten::_copy_from",
                                              "aten::_copy_from_and_resize",
                                              "aten::index.Tensor",
                                              "aten::_pack_padded_sequence",
                                              "aten::index.Tensor_out",
                                              "aten::_index_put_impl_"};
  return names.contains(name);
}

void run(const c10::OperatorHandle& op, c10::DispatchKeySet, torch::jit::Stack* stack) {
  const std::string name = c10::toString(op.operator_name());
  const size_t count = op.schema().arguments().size();
  for (size_t i = stack->size() - count; i < stack->size(); ++i) {
    c10::IValue& value = (*stack)[i];
    if (value.isGenerator() && value.toGenerator().defined()) {
      const at::Generator given = value.toGenerator();
      TORCH_CHECK(given.device().type() == kDevice, name, ": a generator of the processor");
      value = static_cast<Generator*>(given.unsafeGetGeneratorImpl())->inner;
    }
    std::vector<at::Tensor> tensors;
    if (value.isTensor()) tensors.push_back(value.toTensor());
    if (value.isTensorList()) tensors = value.toTensorVector();
    for (const at::Tensor& t : tensors) {
      TORCH_CHECK(!t.defined() || !t.is_cpu() || t.dim() == 0 || may_mix(name), name,
                  ": a tensor of the processor, argument ",
                  op.schema().arguments()[i - (stack->size() - count)].name());
    }
  }
  const Access access;
  at::native::cpu_fallback(op, stack);
}

at::Tensor empty(at::IntArrayRef sizes, std::optional<at::ScalarType> dtype,
                 std::optional<at::Layout>, std::optional<at::Device>, std::optional<bool>,
                 std::optional<at::MemoryFormat> format) {
  return at::detail::empty_generic(sizes, &memory, c10::DispatchKeySet(c10::DispatchKey::HPU),
                                   c10::dtype_or_default(dtype), format);
}

at::Tensor empty_strided(at::IntArrayRef sizes, at::IntArrayRef strides,
                         std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
                         std::optional<at::Device>, std::optional<bool>) {
  return at::detail::empty_strided_generic(sizes, strides, &memory,
                                           c10::DispatchKeySet(c10::DispatchKey::HPU),
                                           c10::dtype_or_default(dtype));
}

at::Tensor copy_from(const at::Tensor& from, const at::Tensor& to, bool) {
  const Access access;
  on_cpu(to).copy_(on_cpu(from));
  return to;
}

at::Tensor& copy(at::Tensor& to, const at::Tensor& from, bool) {
  const Access access;
  on_cpu(to).copy_(on_cpu(from));
  return to;
}

at::Tensor copy_from_and_resize(const at::Tensor& from, const at::Tensor& to) {
  to.resize_(from.sizes());
  const Access access;
  on_cpu(to).copy_(on_cpu(from));
  return to;
}

at::Tensor on_device(const at::Tensor& t) {
  return t.defined() ? t.to(c10::Device(kDevice, 0)) : t;
}

at::Tensor convolution(const at::Tensor& x, const at::Tensor& w, const std::optional<at::Tensor>& b,
                       at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation,
                       bool transposed, at::IntArrayRef output_padding, int64_t groups) {
  const Access access;
  std::optional<at::Tensor> bias;
  if (b && b->defined()) bias = on_cpu(*b);
  return on_device(at::convolution(on_cpu(x), on_cpu(w), bias, stride, padding, dilation,
                                   transposed, output_padding, groups));
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> convolution_backward(
    const at::Tensor& gradient, const at::Tensor& x, const at::Tensor& w, at::IntArrayRef stride,
    at::IntArrayRef padding, at::IntArrayRef dilation, bool transposed,
    at::IntArrayRef output_padding, int64_t groups, std::array<bool, 3> wanted) {
  const Access access;
  const std::vector<int64_t> bias = {gradient.size(1)};
  const auto [dx, dw, db] =
      at::convolution_backward(on_cpu(gradient), on_cpu(x), on_cpu(w), bias, stride, padding,
                               dilation, transposed, output_padding, groups, wanted);
  return {on_device(dx), on_device(dw), on_device(db)};
}

TORCH_LIBRARY_IMPL(_, HPU, library) {
  library.fallback(torch::CppFunction::makeFromBoxedFunction<&run>());
}

TORCH_LIBRARY_IMPL(aten, HPU, library) {
  library.impl("empty.memory_format", &empty);
  library.impl("empty_strided", &empty_strided);
  library.impl("copy_", &copy);
  library.impl("_copy_from", &copy_from);
  library.impl("_copy_from_and_resize", &copy_from_and_resize);
  library.impl("convolution_overrideable", &convolution);
  library.impl("convolution_backward_overrideable", &convolution_backward);
  library.impl("as_strided", &at::native::as_strided_tensorimpl);
  library.impl("view", &at::native::view);
  library.impl("unfold", &at::native::unfold);
  library.impl("_reshape_alias", &at::native::_reshape_alias);
  library.impl("resize_", &at::native::resize_);
  library.impl("set_.source_Storage_storage_offset", &at::native::set_storage_cpu_);
}

}  // namespace
