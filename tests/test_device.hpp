#pragma once
/// \file
/// The device that tests run on: DIFFMASK_DEVICE ("cuda", "cuda:1"), else the processor.

#include <c10/core/Device.h>

#include <cstdlib>

namespace diffmask {

inline c10::Device test_device() {
  const char* name = std::getenv("DIFFMASK_DEVICE");
  return name && *name ? c10::Device(name) : c10::Device(c10::kCPU);
}

}  // namespace diffmask
