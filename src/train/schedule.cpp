#include "diffmask/train/schedule.hpp"

namespace diffmask {

const std::map<std::string, Schedule>& schedule::ready() {
  static const std::map<std::string, Schedule> known = {{"all", all},
                                                        {"bottom_up", bottom_up},
                                                        {"deepest_and_random", deepest_and_random},
                                                        {"random", random},
                                                        {"top_down", top_down}};
  return known;
}

}  // namespace diffmask
