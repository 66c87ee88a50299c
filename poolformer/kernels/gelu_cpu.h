// GELU and its derivative.

#pragma once

#include <array>

#include "map_cpu.h"

namespace poolformer {

// GELU is x times the share of a normal distribution below x. That share, and the derivative of GELU, are 0.5 + x R(t)
// with R a polynomial in t = 2 (x / kEnd)^2 - 1, and beyond kEnd as there: a quotient or an exponential function would
// take twice as long. tests/golden/gelu_polynomials.py fits them.
template <class P>
struct Gelu;

// Errors of 2e-7 and 5e-7.
template <>
struct Gelu<float> {
  static constexpr float kEnd = 5.5f;
  static constexpr std::array<float, 15> kShare{
      0.128551937f, -0.0641724751f, 0.0477369897f, -0.0387872669f, 0.0320817418f, -0.0261124682f, 0.0202879777f,
      -0.0146713675f, 0.0104686321f, -0.00767466705f, 0.00423636397f, -0.00122940404f, 0.00102385501f,
      -0.00136882833f, 0.000538074938f};
  static constexpr std::array<float, 17> kSlope{
      0.128759209f, -0.0657397153f, 0.0536651789f, -0.0537436782f, 0.0603157653f, -0.0686427871f, 0.0742351426f,
      -0.074042892f, 0.0652599479f, -0.0500891451f, 0.0391440213f, -0.0320753528f, 0.017129185f,
      -0.00337147807f, 0.00366509462f, -0.00578249962f, 0.00222320569f};
};

// Errors of 4e-6 and 2e-5, where numbers have three digits.
template <>
struct Gelu<BFloat16> {
  static constexpr float kEnd = 5;
  static constexpr std::array<float, 11> kShare{
      0.141364127f, -0.0703072049f, 0.0515036945f, -0.040198519f, 0.0315496211f, -0.024779004f, 0.0163238703f,
      -0.007384094f, 0.00582716198f, -0.00679391041f, 0.00289487262f};
  static constexpr std::array<float, 12> kSlope{
      0.142130581f, -0.0751227811f, 0.0668261719f, -0.0715419153f, 0.077089438f, -0.0853555524f, 0.0951198023f,
      -0.0684477877f, 0.0212283002f, -0.0277217935f, 0.0465145898f, -0.0207201368f};
};

template <size_t kPower = 0, size_t kCount>
inline float polynomial(const std::array<float, kCount>& powers, float t) {
  if constexpr (kPower + 1 == kCount) {
    return powers[kPower];
  } else {
    return powers[kPower] + t * polynomial<kPower + 1>(powers, t);
  }
}

// Comparisons stand so that each is one instruction and what is not a number stays none.
template <class P>
inline float not_below(float x) {
  return -Gelu<P>::kEnd > x ? -Gelu<P>::kEnd : x;
}

// 0.5 + x R(t).
template <class P, size_t kCount>
inline float about_half(const std::array<float, kCount>& powers, float x) {
  const float inside = Gelu<P>::kEnd < x ? Gelu<P>::kEnd : x;
  return 0.5f + inside * polynomial(powers, inside * inside * (2 / (Gelu<P>::kEnd * Gelu<P>::kEnd)) - 1);
}

template <class P>
inline float gelu(float x) {
  const float kept = not_below<P>(x);  // what is left of the share below would count
  return kept * about_half<P>(Gelu<P>::kShare, kept);
}

template <class P>
inline float gelu_slope(float x) {
  return about_half<P>(Gelu<P>::kSlope, not_below<P>(x));
}

}  // namespace poolformer
