#pragma once
/// \file
/// The multipliers of the constraints D_l <= eps, one a depth, moved by gradient ascent.
///
///     v        = smoothing v + (1 - smoothing) clip((D - eps) / eps, -clip, clip)
///     clamp:     I += rate v, then clamped to [0, maximum]
///     softplus:  theta += rate v,  I = softplus(theta)
///     lambda   = I + proportional v, clamped to [0, maximum]
///
/// With `proportional` > 0 this is proportional-integral control (Stooke et al. 2020): the integral
/// alone turns back only after the constraint has been crossed, and so swings about it; the
/// proportional term brakes on the way.
///
/// The reference moves lambda by about +-0.3 a step whatever the violation (RMSprop); the relative,
/// clipped violation does the same far from the constraint and settles near it.

#include <cstddef>
#include <cstdint>
#include <vector>

namespace diffmask {

struct DualAscentOptions {
  enum class Form { clamp, softplus };
  Form form = Form::clamp;
  double initial =
      5.0;            ///< lambda at the start, in [0, maximum] (reference: 1; Vision DiffMask: 20)
  double rate = 1.0;  ///< step for a violation of eps, > 0 (reference: 0.3)
  double clip = 1.0;  ///< largest relative violation that counts, > 0
  double proportional = 0.0;  ///< gain of the violation itself, >= 0; 0: the integral alone
  double smoothing = 0.0;     ///< decay of v's running mean over steps, in [0, 1); 0: none
  double maximum = 200.0;     ///< largest lambda, > 0 (reference: 200)

  void validate() const;
};

class DualAscent {
 public:
  DualAscent(int64_t depths, double epsilon, DualAscentOptions options = {});
  /// With an eps of its own for each depth.
  explicit DualAscent(std::vector<double> epsilons, DualAscentOptions options = {});

  /// lambda of a depth.
  double multiplier(int64_t depth) const;

  double epsilon(int64_t depth) const { return epsilons_.at(static_cast<size_t>(depth)); }

  /// One ascent step from the divergence D that a depth has now.
  void update(int64_t depth, double divergence);

 private:
  std::vector<double> epsilons_;
  DualAscentOptions options_;
  std::vector<double> integrals_;   // I, or theta in the softplus form
  std::vector<double> violations_;  // v
};

}  // namespace diffmask
