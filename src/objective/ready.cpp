// The lists of names: in a source, since each user's unit would pay for them.
#include "diffmask/objective/divergence.hpp"
#include "diffmask/objective/penalty.hpp"

namespace diffmask {

const std::map<std::string, Divergence>& divergence::ready() {
  static const std::map<std::string, Divergence> all = {
      {"bernoulli", bernoulli},
      {"categorical", categorical},
      {"classes", classes},
      {"cross_entropy", cross_entropy},
      {"jensen_shannon", jensen_shannon},
      {"multi_label", multi_label},
      {"next_token", next_token},
      {"reverse_categorical", reverse_categorical},
      {"span", span},
      {"squared_error", squared_error},
      {"tokens", tokens}};
  return all;
}

const std::map<std::string, Penalty>& penalty::ready() {
  static const std::map<std::string, Penalty> all = {{"expected_l0", expected_l0()},
                                                     {"log_expected_l0", log_expected_l0()},
                                                     {"log_odds", log_odds()}};
  return all;
}

}  // namespace diffmask
