// Products of a tile with a weight, by oneDNN's products of blocks, which read a weight packed for them.

#pragma once

#include <ATen/native/CPUBlas.h>

#include <memory>

#include "map_cpu.h"

namespace poolformer {

constexpr int64_t kColumns = 64;  // of a packed block

// bfloat16 products read two rows at a time, side by side.
template <class P>
constexpr int64_t kRows = std::is_same_v<P, float> ? 1 : 2;

inline int64_t width_from(int64_t column, int64_t columns) { return std::min(kColumns, columns - column); }

// Rows that products read at a time become one, columns side by side: (m, columns) to (m / kRows, columns, kRows).
template <class P>
void pair(const P* from, int64_t from_row, int64_t m, int64_t columns, P* to) {
  for (int64_t i = 0; i < m; i += kRows<P>) {
    const P* row = from + i * from_row;
    P* into = to + i * columns;
    if constexpr (kRows<P> == 1) {
      std::copy_n(row, columns, into);
    } else {
#pragma omp simd
      for (int64_t j = 0; j < columns; j++) {
        const uint32_t both = row[j].x | static_cast<uint32_t>(row[from_row + j].x) << 16;
        std::memcpy(into + 2 * j, &both, sizeof both);
      }
    }
  }
}

// A factor of a product, (rows, columns), in blocks of `kColumns` columns, one behind the other, rows in pairs.
template <class P>
class Packed {
 public:
  Packed(int64_t rows, int64_t columns)
      : rows_(rows), columns_(columns), numbers_(std::make_unique_for_overwrite<P[]>(rows * columns)) {}

  // Packs a weight (columns, rows) transposed; `factor` is of its row, and of its column, in that order.
  template <class W, class Factor>
  static Packed transposed(const W* weight, int64_t rows, int64_t columns, const Factor& factor) {
    Packed packed(rows, columns);
    packed.for_blocks([&](int64_t first, int64_t width, P* block) {
      constexpr int64_t kLines = 16;  // numbers that make a line of a cache
      std::vector<P> lines(kLines * rows);
      for (int64_t n = 0; n < width; n += kLines) {
        const int64_t count = std::min(kLines, width - n);
        for (int64_t i = 0; i < count; i++) {
          const W* from = weight + (first + n + i) * rows;
#pragma omp simd
          for (int64_t k = 0; k < rows; k++) put(lines[i * rows + k], wide(from[k]) * factor(first + n + i, k));
        }
        for (int64_t k = 0; k < rows; k += kRows<P>)
          for (int64_t i = 0; i < count; i++)
            std::memcpy(block + k * width + (n + i) * kRows<P>, &lines[i * rows + k], kRows<P> * sizeof(P));
      }
    });
    return packed;
  }

  // Packs a weight (rows, columns) as it lies.
  template <class W, class Factor>
  static Packed straight(const W* weight, int64_t rows, int64_t columns, const Factor& factor) {
    Packed packed(rows, columns);
    packed.for_blocks([&](int64_t first, int64_t width, P* block) {
      P lines[kRows<P> * kColumns];
      for (int64_t k = 0; k < rows; k += kRows<P>) {
        for (int64_t i = 0; i < kRows<P>; i++) {
          const W* from = weight + (k + i) * columns + first;
#pragma omp simd
          for (int64_t n = 0; n < width; n++) put(lines[i * kColumns + n], wide(from[n]) * factor(k + i, first + n));
        }
        pair(lines, kColumns, kRows<P>, width, block + k * width);
      }
    });
    return packed;
  }

  // c (m, columns) = or += a (m, k) times k rows from `row` on, of `columns` columns from `first` on.
  void multiply(int64_t m, int64_t k, const P* a, int64_t a_row, int64_t row, int64_t first, int64_t columns, float* c,
      int64_t c_row, bool add) const {
    for (int64_t n = first; n < first + columns; n += kColumns) {
      const int64_t width = width_from(n, columns_);
      const P* block = numbers_.get() + n * rows_ + row * width;
      at::native::cpublas::brgemm(m, width, k, a_row, width, c_row, add, a, block, c + n - first, kRows<P> == 2);
    }
  }

 private:
  template <class Run>
  void for_blocks(const Run& run) {
    at::parallel_for(0, (columns_ + kColumns - 1) / kColumns, 1, [&](int64_t begin, int64_t end) {
      for (int64_t first = begin * kColumns; first < std::min(end * kColumns, columns_); first += kColumns)
        run(first, width_from(first, columns_), numbers_.get() + first * rows_);
    });
  }

  int64_t rows_, columns_;
  std::unique_ptr<P[]> numbers_;
};

}  // namespace poolformer
