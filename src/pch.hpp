// The private precompiled header: what nearly every source needs and is slow to read.
#pragma once
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <torch/torch.h>

#include <nlohmann/json.hpp>
