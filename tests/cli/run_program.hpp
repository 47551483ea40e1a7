#pragma once
/// \file
/// Runs the program diffmask as a user would, in a folder of the test's own.

#include <fmt/format.h>
#include <sys/wait.h>

#include <cstdlib>
#include <string>

#include "diffmask/core/file.hpp"
#include "tests/temporary_folder.hpp"

namespace diffmask {

struct ProgramRun {
  int status;
  std::string out, err;
};

/// `before` stands before the program's name, such as a variable of its environment.
inline ProgramRun run_program(const TemporaryFolder& folder, const std::string& arguments,
                              const std::string& before = "") {
  const std::string out = folder / "out", err = folder / "err";
  const std::string command = fmt::format("{} '{}' {} >'{}' 2>'{}'", before,
                                          std::getenv("DIFFMASK_PROGRAM"), arguments, out, err);
  const int status = std::system(command.c_str());
  return {WEXITSTATUS(status), read_file(out), read_file(err)};
}

}  // namespace diffmask
