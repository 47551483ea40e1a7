// diffmask::zoo: a network of it, a text's words, and a reader.
#include <ATen/ATen.h>
#include <diffmask/core/error.hpp>
#include <diffmask/core/random.hpp>
#include <diffmask/zoo/data/idx.hpp>
#include <diffmask/zoo/data/words.hpp>
#include <diffmask/zoo/nets/counting_net.hpp>

#include <iostream>
#include <memory>

int main() {
  const auto net = std::make_shared<diffmask::CountingNet>(diffmask::make_generator(0));
  net->eval();
  const auto model = diffmask::staged(net);
  const auto recording = model->record(
      {at::ones({2, 6}, at::kLong), at::ones({2, 2}, at::kLong), at::ones({2, 6}, at::kBool)});
  std::cout << "outputs " << recording.output().sizes() << ", words "
            << diffmask::words("two words").size() << '\n';
  try {
    diffmask::load_idx("no such file");
  } catch (const diffmask::FileError& error) {
    std::cout << error.what() << '\n';
    return 0;
  }
  return 1;
}
