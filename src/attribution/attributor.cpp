#include "diffmask/attribution/attributor.hpp"

#include "diffmask/core/error.hpp"

namespace diffmask {

Attribution side_by_side(const std::vector<std::pair<std::string, Attribution>>& named) {
  require(!named.empty(), "named", "at least one attribution", "none");
  const at::Tensor& mask = named.front().second.mask;
  std::vector<std::string> sites;
  std::vector<at::Tensor> scores, keep;
  for (const auto& [name, attribution] : named) {
    require(attribution.mask.equal(mask), name, "of the same positions as the first", "others");
    for (const std::string& site : attribution.sites) {
      sites.push_back(fmt::format("{}, {}", name, site));
    }
    scores.push_back(attribution.scores);
    keep.push_back(attribution.keep);
  }
  return {std::move(sites), at::cat(scores, 2), at::cat(keep, 2), mask};
}

}  // namespace diffmask
