// The channel-mixing half of a block on CPUs: see channel_mix.py for what it computes and its names.
//
// A thread takes a tile of tokens through norm, fc1, GELU, fc2 and the residual connection while it lies in its cache,
// so that what is four times as wide as the map never reaches memory; the backward pass likewise, with fc1 computed
// again where its product was not kept. Products are oneDNN's, of a block at a time, with weights packed for them.

#include <torch/library.h>

#include <optional>
#include <utility>

#include "map_cpu.h"
#include "gelu_cpu.h"
#include "products_cpu.h"

namespace poolformer {
namespace {

constexpr int64_t kSlice = 256;  // channels of the hidden layer that a thread works on at a time; whole blocks
constexpr int64_t kBackwardTokens = 128;  // tokens, in the backward pass; a multiple of two
// What all threads together may take to sum gradients of weights in: of 512 channels, 32 threads take part, of 768, 14.
constexpr int64_t kSumsBytes = int64_t{1} << 28;

// ---- forward

// The first `count` numbers as products take them, in `to` where they are rounded.
template <class P>
const P* rounded(const std::vector<float>& from, int64_t count, std::vector<P>& to) {
  if constexpr (std::is_same_v<P, float>) {
    return from.data();
  } else {
    put_all(from.data(), count, to.data());
    return to.data();
  }
}

constexpr int64_t kUnit = 16;  // tokens that products like to have together

int64_t units(int64_t tokens) { return (tokens + kUnit - 1) / kUnit; }

struct Sizes {
  int64_t samples, tokens, channels, hidden;

  Sizes(const Tensor& x, const Tensor& w1)
      : samples(x.size(0)), tokens(x.size(2) * x.size(3)), channels(x.size(1)), hidden(w1.size(0)) {}

  int64_t all_tokens() const { return samples * tokens; }
};

// Refuses what would be read beyond its end: these operators read memory by themselves.
void check(const Sizes& sizes, at::ScalarType products, const Tensor& weight, const Tensor& bias, const Tensor& w1,
    const Tensor& b1, const Tensor& w2, const Tensor& b2, const Tensor& scale, const Tensor& keep) {
  TORCH_CHECK(sizes.channels > 0 && sizes.hidden > 0, "there are no channels");
  TORCH_CHECK(products == at::kFloat || (sizes.channels % 2 == 0 && sizes.hidden % 2 == 0),
      "products in bfloat16 take an even number of channels");
  TORCH_CHECK(w1.scalar_type() == w2.scalar_type(), "w1 and w2 have different types");
  check_numbers("weight", weight, sizes.channels);
  check_numbers("bias", bias, sizes.channels);
  check_numbers("w1", w1, sizes.hidden * sizes.channels);
  check_numbers("b1", b1, sizes.hidden);
  check_numbers("w2", w2, sizes.hidden * sizes.channels);
  check_numbers("b2", b2, sizes.channels);
  check_numbers("scale", scale, sizes.channels);
  check_numbers("keep", keep, sizes.samples);
}

// A weight (out, in, 1, 1) as it lies in memory, (out, in).
Tensor rows_of(const Tensor& weight) { return weight.flatten(1).contiguous(); }

// W1' and W2', each as it is multiplied with in the forward pass.

template <class P, class W>
Packed<P> pack_fc1(const W* w1, const std::vector<float>& weight, const Sizes& sizes) {
  return Packed<P>::transposed(
      w1, sizes.channels, sizes.hidden, [w = weight.data()](int64_t, int64_t c) { return w[c]; });
}

template <class P, class W>
Packed<P> pack_fc2(const W* w2, const std::vector<float>& scale, const Sizes& sizes) {
  return Packed<P>::transposed(
      w2, sizes.hidden, sizes.channels, [s = scale.data()](int64_t c, int64_t) { return s[c]; });
}

// b1'.
template <class W>
std::vector<float> fc1_bias(
    const W* w1, const std::vector<float>& b1, const std::vector<float>& bias, const Sizes& sizes) {
  std::vector<float> all(sizes.hidden);
  at::parallel_for(0, sizes.hidden, kColumns, [&](int64_t begin, int64_t end) {
    for (int64_t h = begin; h < end; h++) {
      float sum = 0;
#pragma omp simd reduction(+ : sum)
      for (int64_t c = 0; c < sizes.channels; c++) sum += wide(w1[h * sizes.channels + c]) * bias[c];
      all[h] = b1[h] + sum;
    }
  });
  return all;
}

template <class P>
struct ForwardOperands {
  Packed<P> fc1, fc2;
  std::vector<float> b1, b2, keep;  // b1', b2', and stochastic depth's factors
};

template <class X, class P>
void forward(const X* x, const Statistics& of, const ForwardOperands<P>& operands, const Sizes& sizes, X* y,
    P* kept_normed, P* kept_hidden) {
  const auto& [fc1, fc2, b1, b2, keep] = operands;
  const int64_t channels = sizes.channels, hidden = sizes.hidden, rows = sizes.all_tokens();
  const int64_t slice = std::min(kSlice, hidden);
  at::parallel_for(0, units(rows), kTokens / kUnit, [&](int64_t begin, int64_t end) {
    std::vector<P> normed(kTokens * channels), active(kTokens * slice);
    std::vector<float> product(kTokens * slice), mixed(kTokens * channels);
    const int64_t last = std::min(end * kUnit, rows);
    for (int64_t first = begin * kUnit; first < last; first += kTokens) {
      const int64_t m = std::min(kTokens, last - first);
      for (int64_t i = 0; i < m; i++) {
        const int64_t sample = (first + i) / sizes.tokens;
        const float mean = of.mean[sample], rstd = of.rstd[sample];
        const X* from = x + (first + i) * channels;
        P* to = normed.data() + i * channels;
#pragma omp simd
        for (int64_t c = 0; c < channels; c++) put(to[c], (wide(from[c]) - mean) * rstd);
      }
      if (kept_normed) std::copy_n(normed.data(), m * channels, kept_normed + first * channels);
      for (int64_t h = 0; h < hidden; h += slice) {
        const int64_t columns = std::min(slice, hidden - h);
        fc1.multiply(m, channels, normed.data(), channels, 0, h, columns, product.data(), slice, false);
        for (int64_t i = 0; i < m; i++) {
          float* from = product.data() + i * slice;
          const float* bias = b1.data() + h;
          if (kept_hidden) put_all(from, columns, kept_hidden + (first + i) * hidden + h);
#pragma omp simd
          for (int64_t j = 0; j < columns; j++) from[j] = gelu<P>(from[j] + bias[j]);
        }
        const P* rounded_active = rounded(product, m * slice, active);
        fc2.multiply(m, columns, rounded_active, slice, h, 0, channels, mixed.data(), channels, h > 0);
      }
      for (int64_t i = 0; i < m; i++) {
        const float factor = keep[(first + i) / sizes.tokens], *from = mixed.data() + i * channels;
        const X* before = x + (first + i) * channels;
        X* to = y + (first + i) * channels;
#pragma omp simd
        for (int64_t c = 0; c < channels; c++) put(to[c], wide(before[c]) + factor * (from[c] + b2[c]));
      }
    }
    at::native::cpublas::brgemm_release(kRows<P> == 2);
  });
}

std::tuple<Tensor, Tensor, Tensor, Tensor> channel_mix(const Tensor& x, const Tensor& weight, const Tensor& bias,
    const Tensor& w1, const Tensor& b1, const Tensor& w2, const Tensor& b2, const Tensor& scale, const Tensor& keep,
    double eps, at::ScalarType dtype, int64_t kept) {
  const Sizes sizes(x, w1);
  check(sizes, dtype, weight, bias, w1, b1, w2, b2, scale, keep);
  const auto map = x.contiguous(at::MemoryFormat::ChannelsLast);
  auto y = at::empty_like(map);
  const auto keep_map = [&](bool wanted, int64_t channels) {
    const auto options = x.options().dtype(dtype);
    return wanted ? at::empty({sizes.samples, sizes.tokens, channels}, options) : at::empty({0}, options);
  };
  auto normed = keep_map(kept > 0, sizes.channels), hidden = keep_map(kept > 1, sizes.hidden);
  const auto factors = floats(scale);
  auto bias2 = floats(b2);
  for (size_t c = 0; c < bias2.size(); c++) bias2[c] *= factors[c];
  Statistics of;
  with_type(x.scalar_type(), [&](auto* as_x) {
    using X = pointed<decltype(as_x)>;
    of = statistics(map.const_data_ptr<X>(), sizes.samples, sizes.tokens, sizes.channels, eps);
    with_type(dtype, [&](auto* as_p) {
      using P = pointed<decltype(as_p)>;
      with_type(w1.scalar_type(), [&](auto* as_w) {
        using W = pointed<decltype(as_w)>;
        const auto rows1 = rows_of(w1), rows2 = rows_of(w2);
        const W *one = rows1.const_data_ptr<W>(), *two = rows2.const_data_ptr<W>();
        const ForwardOperands<P> operands{pack_fc1<P>(one, floats(weight), sizes), pack_fc2<P>(two, factors, sizes),
            fc1_bias(one, floats(b1), floats(bias), sizes), bias2, floats(keep)};
        forward(map.const_data_ptr<X>(), of, operands, sizes, y.mutable_data_ptr<X>(),
            kept > 0 ? normed.mutable_data_ptr<P>() : nullptr, kept > 1 ? hidden.mutable_data_ptr<P>() : nullptr);
      });
    });
  });
  return {y, normed, as_tensor(of.rstd), hidden};
}

// ---- backward

// What a thread sums over its tokens.
struct Sums {
  std::vector<float> w1, w2;  // gradients of W1' and W2', (hidden / kColumns, C, kColumns): each transposed as W2' lies
  std::vector<float> mixed, hidden;  // of what comes to fc2's and to fc1's output
  Sums() = default;
  explicit Sums(const Sizes& sizes)
      : w1(blocks(sizes) * sizes.channels * kColumns), w2(w1.size()), mixed(sizes.channels), hidden(sizes.hidden) {}

  static int64_t blocks(const Sizes& sizes) { return (sizes.hidden + kColumns - 1) / kColumns; }

  void add(const Sums& other) {
    add(w1, other.w1);
    add(w2, other.w2);
    add(mixed, other.mixed);
    add(hidden, other.hidden);
  }

 private:
  static void add(std::vector<float>& to, const std::vector<float>& from) {
    at::parallel_for(0, static_cast<int64_t>(to.size()), 1 << 15, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i++) to[i] += from[i];
    });
  }
};

// (m, columns) to (columns, padded): tokens side by side, as many as products take, zero where there are none.
template <class P>
void transpose(const P* from, int64_t m, int64_t columns, int64_t padded, P* to) {
  constexpr int64_t kTile = 16;
  for (int64_t c = 0; c < columns; c += kTile)
    for (int64_t i = 0; i < m; i += kTile)
      for (int64_t j = c; j < std::min(c + kTile, columns); j++)
        for (int64_t k = i; k < std::min(i + kTile, m); k++) to[j * padded + k] = from[k * columns + j];
  if (m < padded)
    for (int64_t c = 0; c < columns; c++) put(to[c * padded + m], 0);
}

// What a thread works on: a tile of tokens, and as many channels of the hidden layer as a slice has.
template <class P>
struct BackwardTile {
  const Sizes& sizes;
  const int64_t slice;
  int64_t first = 0, m = 0, padded = 0;  // first token of the tile, how many, and how many products take
  std::vector<P> d_mixed, d_mixed_t, normed_t, d_hidden, active, paired;
  std::vector<float> product, d_active, d_normed, sum_mixed, sum_hidden;

  explicit BackwardTile(const Sizes& of)
      : sizes(of), slice(std::min(kSlice, of.hidden)), d_mixed(kBackwardTokens * of.channels),
        d_mixed_t(d_mixed.size()), normed_t(d_mixed.size()), d_hidden(kBackwardTokens * slice), active(d_hidden.size()),
        paired(kBackwardTokens * kColumns), product(d_hidden.size()), d_active(d_hidden.size()),
        d_normed(d_mixed.size()), sum_mixed(of.channels), sum_hidden(of.hidden) {}

  // Starts the tile with what comes to fc2's output.
  template <class X>
  void start(int64_t token, int64_t tokens, const X* gradient, const P* normed, const std::vector<float>& keep) {
    const int64_t channels = sizes.channels;
    first = token, m = tokens, padded = (m + kRows<P> - 1) / kRows<P> * kRows<P>;
    std::fill(sum_mixed.begin(), sum_mixed.end(), 0.0f);
    std::fill(sum_hidden.begin(), sum_hidden.end(), 0.0f);
    for (int64_t i = 0; i < m; i++) {
      const float factor = keep[(first + i) / sizes.tokens];
      const X* from = gradient + (first + i) * channels;
      P* to = d_mixed.data() + i * channels;
      float* sum = sum_mixed.data();
#pragma omp simd
      for (int64_t c = 0; c < channels; c++) {
        const float value = factor * wide(from[c]);
        put(to[c], value);
        sum[c] += value;
      }
    }
    transpose(d_mixed.data(), m, channels, padded, d_mixed_t.data());
    transpose(normed + first * channels, m, channels, padded, normed_t.data());
  }

  // From `product` or, where that is not null, what was kept of it, and from `d_active`: makes them what comes out of
  // GELU and the gradient of what goes into it.
  void through_gelu(const P* kept_hidden, const std::vector<float>& b1, int64_t h, int64_t columns) {
    for (int64_t i = 0; i < m; i++) {
      float *x = product.data() + i * slice, *d = d_active.data() + i * slice, *sum = sum_hidden.data() + h;
      const float* bias = b1.data() + h;
      const auto pass = [&](int64_t j, float value) {
        const float shifted = value + bias[j], through = d[j] * gelu_slope<P>(shifted);
        d[j] = through;
        x[j] = gelu<P>(shifted);
        sum[j] += through;
      };
      if (kept_hidden) {
        const P* from = kept_hidden + (first + i) * sizes.hidden + h;
#pragma omp simd
        for (int64_t j = 0; j < columns; j++) pass(j, wide(from[j]));
      } else {
#pragma omp simd
        for (int64_t j = 0; j < columns; j++) pass(j, x[j]);
      }
    }
    if (m < padded) {
      std::fill_n(product.data() + m * slice, slice, 0.0f);
      std::fill_n(d_active.data() + m * slice, slice, 0.0f);
    }
  }

  // Adds left^T (C, tokens) times right (tokens, columns) to columns [h, h + columns) of the gradient of a weight.
  void add_product(const std::vector<P>& left_t, const P* right, int64_t h, int64_t columns, std::vector<float>& to) {
    constexpr bool kPaired = kRows<P> == 2;
    for (int64_t b = 0; b < columns; b += kColumns) {
      const int64_t width = width_from(h + b, sizes.hidden);
      if (kPaired) pair(right + b, slice, padded, width, paired.data());
      at::native::cpublas::brgemm(sizes.channels, width, padded, padded, kPaired ? width : slice, kColumns, true,
          left_t.data(), kPaired ? paired.data() : right + b, to.data() + (h + b) * sizes.channels, kPaired);
    }
  }

  // Writes the gradient of n(x), and its sums and those of its product with n(x) over each token's channels.
  void finish(const P* normed, P* to_map, float* sums, float* sums_along) const {
    const int64_t channels = sizes.channels;
    for (int64_t i = 0; i < m; i++) {
      const float* from = d_normed.data() + i * channels;
      const P* beside = normed + (first + i) * channels;
      float total = 0, along = 0;
#pragma omp simd reduction(+ : total, along)
      for (int64_t c = 0; c < channels; c++) {
        total += from[c];
        along += from[c] * wide(beside[c]);
      }
      put_all(from, channels, to_map + (first + i) * channels);
      sums[first + i] = total;
      sums_along[first + i] = along;
    }
  }
};

template <class P>
struct BackwardOperands {
  std::optional<Packed<P>> fc1;  // where its product was not kept
  Packed<P> fc1_back, fc2_back;
  std::vector<float> b1, keep;  // b1', and stochastic depth's factors
};

// Returns what the weights' gradients are made of; writes the gradient of n(x) and its sums, as a tile does.
template <class X, class P>
Sums backward(const X* gradient, const P* normed, const P* kept_hidden, const BackwardOperands<P>& operands,
    const Sizes& sizes, P* d_normed, float* sums, float* sums_along) {
  const auto& [fc1, fc1_back, fc2_back, b1, keep] = operands;
  const int64_t channels = sizes.channels, hidden = sizes.hidden, rows = sizes.all_tokens();
  const int64_t most = std::min(units(rows) * kUnit / kTokens, kSumsBytes / (8 * channels * hidden));
  const int64_t workers = std::max<int64_t>(1, std::min<int64_t>(at::get_num_threads(), most));
  std::vector<Sums> found(workers);
  at::parallel_for(0, workers, 1, [&](int64_t begin, int64_t end) {
    BackwardTile<P> tile(sizes);
    const int64_t slice = tile.slice;
    for (int64_t worker = begin; worker < end; worker++) {
      Sums sum(sizes);
      const int64_t last = std::min((worker + 1) * units(rows) / workers * kUnit, rows);
      for (int64_t first = worker * units(rows) / workers * kUnit; first < last; first += kBackwardTokens) {
        const int64_t m = std::min(kBackwardTokens, last - first);
        tile.start(first, m, gradient, normed, keep);
        for (int64_t h = 0; h < hidden; h += slice) {
          const int64_t columns = std::min(slice, hidden - h);
          if (fc1)
            fc1->multiply(
                m, channels, normed + first * channels, channels, 0, h, columns, tile.product.data(), slice, false);
          fc2_back.multiply(
              m, channels, tile.d_mixed.data(), channels, 0, h, columns, tile.d_active.data(), slice, false);
          tile.through_gelu(fc1 ? nullptr : kept_hidden, b1, h, columns);
          const P* active = rounded(tile.product, tile.padded * slice, tile.active);
          const P* d_hidden = rounded(tile.d_active, tile.padded * slice, tile.d_hidden);
          fc1_back.multiply(m, columns, d_hidden, slice, h, 0, channels, tile.d_normed.data(), channels, h > 0);
          tile.add_product(tile.normed_t, d_hidden, h, columns, sum.w1);
          tile.add_product(tile.d_mixed_t, active, h, columns, sum.w2);
        }
        tile.finish(normed, d_normed, sums, sums_along);
        for (int64_t c = 0; c < channels; c++) sum.mixed[c] += tile.sum_mixed[c];
        for (int64_t h = 0; h < hidden; h++) sum.hidden[h] += tile.sum_hidden[h];
      }
      found[worker] = std::move(sum);
    }
    at::native::cpublas::brgemm_release(kRows<P> == 2);
  });
  for (int64_t worker = 1; worker < workers; worker++) found[0].add(found[worker]);
  return std::move(found[0]);
}

// gradient + rstd * (d - mean(d) - mean(d * normed) * normed), d the gradient of n(x).
template <class X, class P>
void norm_backward(const X* gradient, const P* d_normed, const P* normed, const std::vector<float>& rstd,
    const float* sums, const float* sums_along, const Sizes& sizes, X* d_x) {
  const int64_t channels = sizes.channels;
  std::vector<float> mean(sizes.samples), along(sizes.samples);
  for (int64_t sample = 0; sample < sizes.samples; sample++) {
    double total = 0, total_along = 0;
    for (int64_t i = sample * sizes.tokens; i < (sample + 1) * sizes.tokens; i++)
      total += sums[i], total_along += sums_along[i];
    const double numbers = static_cast<double>(sizes.tokens * channels);
    mean[sample] = static_cast<float>(total / numbers);
    along[sample] = static_cast<float>(total_along / numbers);
  }
  at::parallel_for(0, sizes.all_tokens(), kTokens, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) {
      const int64_t sample = i / sizes.tokens;
      const float r = rstd[sample], mu = mean[sample], a = along[sample];
      const X* from = gradient + i * channels;
      const P *d = d_normed + i * channels, *n = normed + i * channels;
      X* to = d_x + i * channels;
#pragma omp simd
      for (int64_t c = 0; c < channels; c++) put(to[c], wide(from[c]) + r * (wide(d[c]) - mu - a * wide(n[c])));
    }
  });
}

// From the gradients of W1' to those of w1, weight and bias.
template <class W>
void fc1_gradients(const Sums& sum, const W* w1, const std::vector<float>& weight, const std::vector<float>& bias,
    const Sizes& sizes, W* d_w1, std::vector<float>& d_weight, std::vector<float>& d_bias) {
  const int64_t channels = sizes.channels, blocks = Sums::blocks(sizes);
  std::vector<float> parts(blocks * 2 * channels);
  at::parallel_for(0, blocks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end; block++) {
      float *of_weight = parts.data() + block * 2 * channels, *of_bias = of_weight + channels;
      const float* from = sum.w1.data() + block * channels * kColumns;
      for (int64_t j = 0; j < width_from(block * kColumns, sizes.hidden); j++) {
        const int64_t h = block * kColumns + j;
        const float shifts = sum.hidden[h];
        const W* w = w1 + h * channels;
        W* to = d_w1 + h * channels;
#pragma omp simd
        for (int64_t c = 0; c < channels; c++) {
          const float value = from[c * kColumns + j];
          put(to[c], value * weight[c] + shifts * bias[c]);
          of_weight[c] += value * wide(w[c]);
          of_bias[c] += shifts * wide(w[c]);
        }
      }
    }
  });
  for (int64_t block = 0; block < blocks; block++)
    for (int64_t c = 0; c < channels; c++) {
      d_weight[c] += parts[block * 2 * channels + c];
      d_bias[c] += parts[(block * 2 + 1) * channels + c];
    }
}

// From the gradients of W2' to those of w2 and scale.
template <class W>
void fc2_gradients(const Sums& sum, const W* w2, const std::vector<float>& b2, const std::vector<float>& scale,
    const Sizes& sizes, W* d_w2, std::vector<float>& d_scale) {
  const int64_t channels = sizes.channels, hidden = sizes.hidden;
  at::parallel_for(0, channels, 1, [&](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; c++) {
      float of_scale = 0;
      for (int64_t h = 0; h < hidden; h += kColumns) {
        const float* from = sum.w2.data() + h * channels + c * kColumns;
        const W* w = w2 + c * hidden + h;
        W* to = d_w2 + c * hidden + h;
        const float factor = scale[c];
#pragma omp simd reduction(+ : of_scale)
        for (int64_t j = 0; j < width_from(h, hidden); j++) {
          put(to[j], factor * from[j]);
          of_scale += from[j] * wide(w[j]);
        }
      }
      d_scale[c] = of_scale + b2[c] * sum.mixed[c];
    }
  });
}

std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor> channel_mix_backward(const Tensor& gradient,
    const Tensor& normed, const Tensor& rstd, const Tensor& hidden, const Tensor& weight, const Tensor& bias,
    const Tensor& w1, const Tensor& b1, const Tensor& w2, const Tensor& b2, const Tensor& scale, const Tensor& keep) {
  const Sizes sizes(gradient, w1);
  check(sizes, normed.scalar_type(), weight, bias, w1, b1, w2, b2, scale, keep);
  check_numbers("normed", normed, gradient.numel());
  check_numbers("rstd", rstd, sizes.samples);
  if (hidden.numel()) check_numbers("hidden", hidden, sizes.all_tokens() * sizes.hidden);
  TORCH_CHECK(normed.is_contiguous() && hidden.is_contiguous(), "what was kept is not contiguous");
  TORCH_CHECK(hidden.scalar_type() == normed.scalar_type(), "what was kept has two types");
  const int64_t channels = sizes.channels, width = sizes.hidden;
  const auto into = gradient.contiguous(at::MemoryFormat::ChannelsLast);
  const auto rows1 = rows_of(w1), rows2 = rows_of(w2);
  const auto weights = floats(weight), biases = floats(bias), bias2 = floats(b2), factors = floats(scale);
  auto d_x = at::empty_like(into), d_normed = at::empty_like(normed);
  auto d_w1 = at::empty_like(rows1), d_w2 = at::empty_like(rows2);
  auto sums = at::empty({2, sizes.all_tokens()}, at::kFloat);
  float *of_tokens = sums.mutable_data_ptr<float>(), *along = of_tokens + sizes.all_tokens();
  std::vector<float> d_weight(channels), d_bias(channels), d_scale(channels), d_b2(channels), d_b1;
  with_type(gradient.scalar_type(), [&](auto* as_x) {
    using X = pointed<decltype(as_x)>;
    with_type(normed.scalar_type(), [&](auto* as_p) {
      using P = pointed<decltype(as_p)>;
      with_type(w1.scalar_type(), [&](auto* as_w) {
        using W = pointed<decltype(as_w)>;
        const W *one = rows1.const_data_ptr<W>(), *two = rows2.const_data_ptr<W>();
        BackwardOperands<P> operands{std::nullopt,
            Packed<P>::straight(one, width, channels, [w = weights.data()](int64_t, int64_t c) { return w[c]; }),
            Packed<P>::straight(two, channels, width, [s = factors.data()](int64_t c, int64_t) { return s[c]; }),
            fc1_bias(one, floats(b1), biases, sizes), floats(keep)};
        if (!hidden.numel()) operands.fc1.emplace(pack_fc1<P>(one, weights, sizes));
        const Sums sum = backward(into.const_data_ptr<X>(), normed.const_data_ptr<P>(), hidden.const_data_ptr<P>(),
            operands, sizes, d_normed.mutable_data_ptr<P>(), of_tokens, along);
        norm_backward(into.const_data_ptr<X>(), d_normed.const_data_ptr<P>(), normed.const_data_ptr<P>(), floats(rstd),
            of_tokens, along, sizes, d_x.mutable_data_ptr<X>());
        fc1_gradients(sum, one, weights, biases, sizes, d_w1.mutable_data_ptr<W>(), d_weight, d_bias);
        fc2_gradients(sum, two, bias2, factors, sizes, d_w2.mutable_data_ptr<W>(), d_scale);
        for (int64_t c = 0; c < channels; c++) d_b2[c] = factors[c] * sum.mixed[c];
        d_b1 = sum.hidden;
      });
    });
  });
  const auto of = [](const std::vector<float>& values, const Tensor& parameter) {
    return as_tensor(values).to(parameter.scalar_type());
  };
  // In the strides of the weights (out, in, 1, 1), in which DDP's buckets wait for them.
  const auto laid_out = [](const Tensor& rows, const Tensor& parameter) {
    const auto like = at::empty_like(parameter);
    const bool as_rows = like.stride(0) == parameter.size(1) && like.stride(1) == 1;
    return as_rows ? rows.as_strided(like.sizes(), like.strides()) : like.copy_(rows.view(like.sizes()));
  };
  return {d_x, of(d_weight, weight), of(d_bias, bias), laid_out(d_w1, w1), of(d_b1, b1), laid_out(d_w2, w2),
      of(d_b2, b2), of(d_scale, scale)};
}

TORCH_LIBRARY_IMPL(poolformer_cpu, CPU, library) {
  library.impl("channel_mix", &channel_mix);
  library.impl("channel_mix_backward", &channel_mix_backward);
}

}  // namespace
}  // namespace poolformer
