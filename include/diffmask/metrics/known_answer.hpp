#pragma once
/// \file
/// Scores of an attribution where the true one is known (De Cao et al. 2020, section 4.1):
///
///     p = truth / sum truth,  q = attribution / sum attribution   over a row's explained positions
///     D_KL = KL(p || q),  D_JS = (KL(p || m) + KL(q || m)) / 2,  m = (p + q) / 2       in nats
///
/// Lower is better, and 0 is perfect. D_KL is infinite where q leaves out a position that p has.
///
///     const Attribution attribution = method.attribute(batch);
///     for (const SiteAnswer& at : site_answers(truth, attribution))
///       fmt::print("{}: D_KL {:.4f}, D_JS {:.4f}\n", at.site, at.answer.kl, at.answer.js);

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "diffmask/attribution/attributor.hpp"

namespace diffmask {

struct KnownAnswer {
  double kl = 0.0, js = 0.0;  ///< means over the rows that count
  int64_t rows = 0;           ///< rows with a truth; the others are left out
  at::Tensor kls, jss;        ///< of each of these rows, in double precision; shape (rows)
};

/// Shape: truth, attribution (B, P), both >= 0; mask (B, P) bool. A row whose attribution is 0
/// everywhere counts as uniform. ArgumentError for negative or non-finite values, or no row that
/// counts.
KnownAnswer known_answer(const at::Tensor& truth, const at::Tensor& attribution,
                         const at::Tensor& mask);

/// R-precision, the share of true positions among the k highest scores of a row, k being how many
/// are true; a mean over the rows that have any. Higher is better, 1 at most; by chance it is k /
/// P. Positions of equal score count as in a random order, so that a uniform attribution has
/// exactly what chance has. Shape and errors: as of known_answer, but scores may be below 0.
double r_precision(const at::Tensor& truth, const at::Tensor& attribution, const at::Tensor& mask);

/// How near an attribution comes to the truth at one of its sites.
struct SiteAnswer {
  std::string site;
  KnownAnswer answer;    ///< D_KL and D_JS in nats; lower is better
  double precision = 0;  ///< r_precision: the share of true positions among as many highest scores
};

/// Of |scores|, site by site: a position that speaks against the prediction matters, too. Shape:
/// truth (B, P), the attribution's. Errors: as of known_answer.
std::vector<SiteAnswer> site_answers(const at::Tensor& truth, const Attribution& attribution);

}  // namespace diffmask
