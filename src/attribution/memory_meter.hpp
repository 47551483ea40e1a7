#pragma once
/// \file
/// The most bytes that LibTorch's allocators had handed out on this thread at once while it lives.

#include <c10/core/Allocator.h>
#include <c10/util/ThreadLocalDebugInfo.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <type_traits>

#include "diffmask/core/libtorch.hpp"

namespace diffmask {

class MemoryMeter {
 public:
  MemoryMeter() : counter_(std::make_shared<Counter>()), guard_(kind(), counter_) {}
  int64_t peak() const { return counter_->peak; }

  /// Whether another one, LibTorch's profiler, has the place that this needs.
  static bool available() { return c10::ThreadLocalDebugInfo::get(kind()) == nullptr; }

 private:
  static c10::DebugInfoKind kind() { return c10::DebugInfoKind::PROFILER_STATE; }

  struct Counter : c10::MemoryReportingInfoBase {
    int64_t now = 0, peak = 0;

    void add(int64_t bytes) {
      now += bytes;
      peak = std::max(peak, now);
    }
    // LibTorch 1 has totals that are signed, LibTorch 2 unsigned ones.
    using Total = std::conditional_t<DIFFMASK_TORCH_AT_LEAST(2, 0), size_t, int64_t>;
    void reportMemoryUsage(void*, int64_t bytes, Total, Total, c10::Device) override { add(bytes); }
    bool memoryProfilingEnabled() const override { return true; }
  };

  std::shared_ptr<Counter> counter_;
  c10::DebugInfoGuard guard_;
};

}  // namespace diffmask
