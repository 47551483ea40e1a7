#pragma once
/// \file
/// Threads that wait for work spin only briefly: for the file that has a program's main.
///
///     #include "diffmask/core/short_spin.hpp"
///     int main() { at::set_num_threads(2); ... }
///
/// LibTorch's threads are OpenMP's, and GNU's libgomp lets a thread that waits spin for milliseconds
/// before it sleeps. On a machine whose cores are busy the one that spins holds the core that the
/// one with work needs: a network of small layers then takes 20 to 100 times as long with two
/// threads as with one. With at most 1000 rounds (some 50 microseconds) it takes 1.5 times as long,
/// and on an idle machine as long as without this header. (OMP_WAIT_POLICY=passive, which never
/// spins, takes 3 times as long on an idle machine.)
///
/// libgomp reads its environment once, before main and before any static object. Only an
/// executable's .preinit_array runs earlier, but what it sets is lost, so the program starts itself
/// again from there: once, under the same process id, before any library is initialised. A shared
/// library cannot have a .preinit_array: this header is not for libraries. If the user has set
/// OMP_WAIT_POLICY or GOMP_SPINCOUNT, nothing happens.

#include <unistd.h>

#include <cstring>

namespace diffmask {

/// Runs before libc's own initialisation, so it calls the system and compares text, no more.
inline void spin_briefly(int, char** arguments, char** environment) {
  constexpr int kMost = 4096;
  static char setting[] = "GOMP_SPINCOUNT=1000";
  static char* changed[kMost + 2];
  static char program[4096];
  int count = 0;
  for (; environment[count] != nullptr; ++count) {
    const char* variable = environment[count];
    if (count == kMost || std::strncmp(variable, "GOMP_SPINCOUNT=", 15) == 0 ||
        std::strncmp(variable, "OMP_WAIT_POLICY=", 16) == 0) {
      return;
    }
    changed[count] = environment[count];
  }
  changed[count] = setting;
  if (readlink("/proc/self/exe", program, sizeof program - 1) <= 0) return;
  const auto file = [](const char* path) {
    const char* slash = std::strrchr(path, '/');
    return slash == nullptr ? path : slash + 1;
  };
  // Where another name was started, such as the dynamic loader's, the arguments are not its own.
  if (arguments[0] == nullptr || std::strcmp(file(program), file(arguments[0])) != 0) return;
  execve(program, arguments, changed);  // it returns only where that fails
}

namespace {
[[gnu::used, gnu::section(".preinit_array")]] void (*spin_briefly_first)(int, char**,
                                                                         char**) = spin_briefly;
}  // namespace

}  // namespace diffmask
