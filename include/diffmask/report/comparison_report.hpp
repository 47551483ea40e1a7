#pragma once
/// \file
/// A comparison of methods as tables and curves: Markdown to read, HTML to show, JSON to go on
/// with.
///
/// A cell is the mean over runs and, of several, the worst in brackets. Arrows say whether higher
/// or lower is better. Where methods are on an equal footing, which at their own choices of what to
/// keep they are not, the best of a column is bold, and with it those that follow it as long as the
/// examples do not tell them from it (differ()).

#include <string>

#include "diffmask/metrics/comparison.hpp"

namespace diffmask {

std::string markdown_comparison(const Comparison& comparison);

/// {"metrics": [{"name", "better"}], "rows": [{"method", "site", "seed", "failure", "values",
/// "deletion", "insertion"}]}; values that are NaN are null, infinite ones "inf".
std::string json_comparison(const Comparison& comparison);

/// A page that needs nothing beside itself, with the curves of deletion and insertion.
std::string html_comparison(const std::string& title, const std::string& introduction,
                            const Comparison& comparison);

}  // namespace diffmask
