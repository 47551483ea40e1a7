#pragma once
/// \file
/// Tables of calls that have to be refused, and of the words the refusal has to hold.

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "diffmask/core/error.hpp"

namespace diffmask {

struct BadInput {
  std::string name;
  std::function<void()> call;
  std::string message;  ///< a fragment of it
};

/// Every call throws an `Expected`, not merely any exception, whose message holds the fragment.
template <typename Expected = ArgumentError>
void expect_refused(const std::vector<BadInput>& table) {
  for (const BadInput& input : table) {
    SCOPED_TRACE(input.name);
    try {
      input.call();
      ADD_FAILURE() << "was accepted";
    } catch (const Expected& error) {
      EXPECT_NE(std::string(error.what()).find(input.message), std::string::npos) << error.what();
    } catch (const std::exception& error) {
      ADD_FAILURE() << "threw something else: " << error.what();
    }
  }
}

}  // namespace diffmask
