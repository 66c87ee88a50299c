// What the fused operators share on CPUs: numbers of a map and of parameters, and statistics of samples.
//
// Loops are written for the compiler to vectorise. A map is (B, T, C): samples, tokens, and channels side by side.

#pragma once

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/Parallel.h>
#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <tuple>
#include <type_traits>
#include <vector>

namespace poolformer {

using at::BFloat16;
using at::Tensor;

inline float wide(float x) { return x; }

inline float wide(BFloat16 x) {
  const uint32_t bits = static_cast<uint32_t>(x.x) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

inline void put(float& to, float value) { to = value; }

// Rounds to the nearest, ties to even; what is not a number stays none.
inline void put(BFloat16& to, float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  to.x = static_cast<uint16_t>((bits & 0x7fffffff) > 0x7f800000 ? 0x7fc0 : rounded);
}

// `put` for n numbers.
inline void put_all(const float* from, int64_t n, float* to) { std::copy_n(from, n, to); }

inline void put_all(const float* from, int64_t n, BFloat16* to) {
  int64_t i = 0;
#ifdef __AVX512BF16__
  for (; i + 32 <= n; i += 32) {
    const auto both = _mm512_cvtne2ps_pbh(_mm512_loadu_ps(from + i + 16), _mm512_loadu_ps(from + i));
    std::memcpy(to + i, &both, sizeof both);
  }
#endif
#pragma omp simd
  for (int64_t j = i; j < n; j++) put(to[j], from[j]);
}

// Calls `run` with a null pointer of the type of a tensor's numbers.
template <class Run>
void with_type(at::ScalarType type, const Run& run) {
  if (type == at::kBFloat16) {
    run(static_cast<BFloat16*>(nullptr));
  } else {
    TORCH_CHECK(type == at::kFloat, "fused operators on a CPU take float32 and bfloat16, not ", type);
    run(static_cast<float*>(nullptr));
  }
}

template <class Pointer>
using pointed = std::remove_pointer_t<Pointer>;

inline std::vector<float> floats(const Tensor& tensor) {
  const auto wide_tensor = tensor.to(at::kFloat).contiguous();
  const float* first = wide_tensor.const_data_ptr<float>();
  return {first, first + wide_tensor.numel()};
}

inline void check_numbers(const char* name, const Tensor& tensor, int64_t numbers) {
  TORCH_CHECK(tensor.numel() == numbers, name, " has ", tensor.numel(), " numbers, not ", numbers);
}

// Tokens that one thread works on at a time.
constexpr int64_t kTokens = 64;

struct Statistics {
  std::vector<float> mean, rstd;  // (B)
};

// Mean and 1 / sqrt(variance + eps) of each sample of (B, T, C), read once: those of pieces, and what they come to.
template <class X>
Statistics statistics(const X* x, int64_t samples, int64_t tokens, int64_t channels, double eps) {
  struct Piece {
    double mean, squares;  // squares of the distances from the mean, summed
  };
  const int64_t pieces = (tokens + kTokens - 1) / kTokens;
  std::vector<Piece> found(samples * pieces);
  at::parallel_for(0, samples * pieces, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) {
      const int64_t sample = i / pieces, first = i % pieces * kTokens;
      const int64_t numbers = std::min(kTokens, tokens - first) * channels;
      const X* piece = x + (sample * tokens + first) * channels;
      float sum = 0, squares = 0;
#pragma omp simd reduction(+ : sum)
      for (int64_t j = 0; j < numbers; j++) sum += wide(piece[j]);
      const float mean = sum / static_cast<float>(numbers);
#pragma omp simd reduction(+ : squares)
      for (int64_t j = 0; j < numbers; j++) squares += (wide(piece[j]) - mean) * (wide(piece[j]) - mean);
      found[i] = {mean, squares};
    }
  });
  Statistics result{std::vector<float>(samples), std::vector<float>(samples)};
  for (int64_t sample = 0; sample < samples; sample++) {
    double mean = 0, squares = 0, count = 0;
    for (int64_t i = 0; i < pieces; i++) {
      const Piece& piece = found[sample * pieces + i];
      const double more = static_cast<double>(std::min(kTokens, tokens - i * kTokens) * channels);
      const double apart = piece.mean - mean;
      squares += piece.squares + apart * apart * count * more / (count + more);
      count += more;
      mean += apart * more / count;
    }
    result.mean[sample] = static_cast<float>(mean);
    result.rstd[sample] = static_cast<float>(1 / std::sqrt(squares / count + eps));
  }
  return result;
}

inline Tensor as_tensor(const std::vector<float>& values) {
  auto tensor = at::empty({static_cast<int64_t>(values.size())}, at::kFloat);
  std::copy(values.begin(), values.end(), tensor.mutable_data_ptr<float>());
  return tensor;
}

}  // namespace poolformer
