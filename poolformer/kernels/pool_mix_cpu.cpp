// The token-mixing half of a PoolFormer block on CPUs: see pool_mix.py for what it computes and its names.
//
// A row of the map is summed over the rows of its window, and then over the columns, while it lies in a thread's cache.

#include <torch/library.h>

#include "map_cpu.h"

namespace poolformer {
namespace {

struct Map {
  int64_t samples, channels, height, width;

  explicit Map(const Tensor& x) : samples(x.size(0)), channels(x.size(1)), height(x.size(2)), width(x.size(3)) {}

  int64_t row() const { return width * channels; }
};

// What a window around a position covers of a side of the map.
struct Span {
  int64_t first, last;

  Span(int64_t position, int64_t pool_size, int64_t side)
      : first(std::max<int64_t>(position - pool_size / 2, 0)), last(std::min(position + pool_size / 2, side - 1)) {}

  float share() const { return 1.0f / static_cast<float>(last - first + 1); }
};

// Pools row `i` of a sample's map, or with `kTransposed` hands shares of each token back to those it was pooled from;
// calls `use(token of the sample, what it comes to for its channels)`.
template <bool kTransposed, class X, class Use>
void pool_row(const X* sample, int64_t i, int64_t pool_size, const Map& map, std::vector<float>& sums,
    std::vector<float>& pooled, const Use& use) {
  const int64_t channels = map.channels;
  const Span rows(i, pool_size, map.height);
  std::fill(sums.begin(), sums.end(), 0.0f);
  for (int64_t r = rows.first; r <= rows.last; r++) {
    const float share = kTransposed ? Span(r, pool_size, map.height).share() : rows.share();
    const X* from = sample + r * map.row();
    float* to = sums.data();
#pragma omp simd
    for (int64_t j = 0; j < map.row(); j++) to[j] += share * wide(from[j]);
  }
  for (int64_t w = 0; w < map.width; w++) {
    const Span columns(w, pool_size, map.width);
    float* to = pooled.data();
    std::fill(pooled.begin(), pooled.end(), 0.0f);
    for (int64_t v = columns.first; v <= columns.last; v++) {
      const float share = kTransposed ? Span(v, pool_size, map.width).share() : columns.share();
      const float* from = sums.data() + v * channels;
#pragma omp simd
      for (int64_t c = 0; c < channels; c++) to[c] += share * from[c];
    }
    use(i * map.width + w, to);
  }
}

// Calls `run(sample, row of its map, two pieces of memory for pool_row)` for all rows.
template <class Run>
void for_rows(const Map& map, const Run& run) {
  at::parallel_for(0, map.samples * map.height, 1, [&](int64_t begin, int64_t end) {
    std::vector<float> sums(map.row()), pooled(map.channels);
    for (int64_t i = begin; i < end; i++) run(i / map.height, i % map.height, sums, pooled);
  });
}

std::tuple<Tensor, Tensor, Tensor> pool_mix(
    const Tensor& x, const Tensor& a, const Tensor& keep, double eps, int64_t pool_size) {
  const Map map(x);
  check_numbers("a", a, map.channels);
  check_numbers("keep", keep, map.samples);
  const auto input = x.contiguous(at::MemoryFormat::ChannelsLast);
  auto y = at::empty_like(input);
  const auto scale = floats(a), factors = floats(keep);
  Statistics of;
  with_type(x.scalar_type(), [&](auto* as_x) {
    using X = pointed<decltype(as_x)>;
    const X* from = input.const_data_ptr<X>();
    X* to = y.mutable_data_ptr<X>();
    of = statistics(from, map.samples, map.height * map.width, map.channels, eps);
    for_rows(map, [&](int64_t sample, int64_t row, auto& sums, auto& pooled) {
      const float factor = factors[sample] * of.rstd[sample];
      const int64_t first = sample * map.height * map.row();
      pool_row<false>(from + first, row, pool_size, map, sums, pooled, [&](int64_t token, const float* mean) {
        const X* before = from + first + token * map.channels;
        X* after = to + first + token * map.channels;
#pragma omp simd
        for (int64_t c = 0; c < map.channels; c++) {
          const float value = wide(before[c]);
          put(after[c], value + factor * scale[c] * (mean[c] - value));
        }
      });
    });
  });
  return {y, as_tensor(of.mean), as_tensor(of.rstd)};
}

std::tuple<Tensor, Tensor> pool_mix_backward(const Tensor& gradient, const Tensor& x, const Tensor& a,
    const Tensor& keep, const Tensor& mean, const Tensor& rstd, int64_t pool_size) {
  const Map map(x);
  const int64_t channels = map.channels, numbers = map.height * map.row();
  check_numbers("gradient", gradient, x.numel());
  check_numbers("a", a, channels);
  check_numbers("keep", keep, map.samples);
  check_numbers("mean", mean, map.samples);
  check_numbers("rstd", rstd, map.samples);
  const auto into = gradient.contiguous(at::MemoryFormat::ChannelsLast);
  const auto input = x.contiguous(at::MemoryFormat::ChannelsLast);
  auto d_x = at::empty_like(input);
  const auto scale = floats(a), factors = floats(keep), means = floats(mean), rstds = floats(rstd);
  std::vector<float> row_sums(map.samples * map.height * channels), slope(map.samples), d_a(channels);
  with_type(x.scalar_type(), [&](auto* as_x) {
    using X = pointed<decltype(as_x)>;
    const X *from = input.const_data_ptr<X>(), *d = into.const_data_ptr<X>();
    X* to = d_x.mutable_data_ptr<X>();
    for_rows(map, [&](int64_t sample, int64_t row, auto& sums, auto& pooled) {
      float* into_row = row_sums.data() + (sample * map.height + row) * channels;
      const int64_t first = sample * numbers;
      pool_row<false>(from + first, row, pool_size, map, sums, pooled, [&](int64_t token, const float* mean_around) {
        const X *before = from + first + token * channels, *behind = d + first + token * channels;
#pragma omp simd
        for (int64_t c = 0; c < channels; c++) into_row[c] += wide(behind[c]) * (mean_around[c] - wide(before[c]));
      });
    });
    for (int64_t sample = 0; sample < map.samples; sample++) {
      double d_rstd = 0;
      for (int64_t c = 0; c < channels; c++) {
        double sum = 0;
        for (int64_t row = 0; row < map.height; row++) sum += row_sums[(sample * map.height + row) * channels + c];
        d_a[c] += static_cast<float>(factors[sample] * rstds[sample] * sum);
        d_rstd += factors[sample] * scale[c] * sum;
      }
      slope[sample] = static_cast<float>(d_rstd * std::pow(rstds[sample], 3) / static_cast<double>(numbers));
    }
    for_rows(map, [&](int64_t sample, int64_t row, auto& sums, auto& pooled) {
      const float factor = factors[sample] * rstds[sample], along = slope[sample], center = means[sample];
      const int64_t first = sample * numbers;
      pool_row<true>(d + first, row, pool_size, map, sums, pooled, [&](int64_t token, const float* handed_back) {
        const X *before = from + first + token * channels, *behind = d + first + token * channels;
        X* after = to + first + token * channels;
#pragma omp simd
        for (int64_t c = 0; c < channels; c++) {
          const float value = wide(behind[c]), branch = factor * scale[c] * (handed_back[c] - value);
          put(after[c], value + branch - along * (wide(before[c]) - center));
        }
      });
    });
  });
  return {d_x, as_tensor(d_a)};
}

TORCH_LIBRARY_IMPL(poolformer_cpu, CPU, library) {
  library.impl("pool_mix", &pool_mix);
  library.impl("pool_mix_backward", &pool_mix_backward);
}

}  // namespace
}  // namespace poolformer
