// SPDX-License-Identifier: Apache-2.0
// Products of float matrices as small as those of policies, on one thread: the right one is packed, and whatever
// follows is done to a tile of the result while it is at hand.
//
// A tile of ROWS x COLUMNS stays in registers while the product runs along its inner dimension, as in Goto and van de
// Geijn, "Anatomy of High-Performance Matrix Multiplication", ACM TOMS 34 (2008). Libraries are made for larger
// matrices, and pack anew what is multiplied again.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

namespace tigr {

#if defined(__AVX512F__)
constexpr int64_t LANES = 16, ROWS = 12, VECTORS = 2;
#elif defined(__AVX__)
constexpr int64_t LANES = 8, ROWS = 4, VECTORS = 3;  // of 16 registers, 12 for sums
#elif defined(__aarch64__)
constexpr int64_t LANES = 4, ROWS = 12, VECTORS = 2;
#else
constexpr int64_t LANES = 4, ROWS = 4, VECTORS = 2;
#endif
constexpr int64_t COLUMNS = VECTORS * LANES;
constexpr int64_t AHEAD = 12;  // rows of a panel that are asked for before they are packed
typedef float Vector __attribute__((vector_size(LANES * sizeof(float)), aligned(4), may_alias));

// Entry (i, j) is at at[i * row + j * column].
struct Matrix {
  const float* at;
  int64_t row, column;

  Matrix transposed() const { return {at, column, row}; }
  Matrix rows_from(int64_t i, int64_t) const { return {at + i * row, row, column}; }
};

// The rows of a tile, of so many that are left. Few rows take as long as four: the last two tiles share what is left.
inline int64_t tile_rows(int64_t left) { return left <= ROWS ? left : left < 2 * ROWS ? (left + 1) / 2 : ROWS; }

// A matrix of which each tile's rows were packed column by column, each row with some floats to spare: tiles of whole
// kilobytes would all fall on the same places of the nearest cache.
struct PackedRows {
  const float* at;
  int64_t row;
  static constexpr int64_t SPARE = 4;

  static int64_t size(int64_t rows, int64_t inner) { return rows * (inner + SPARE); }
  Matrix rows_from(int64_t i, int64_t count) const { return {at + i * row, 1, count}; }
};

inline int64_t whole_panels(int64_t columns) { return (columns + COLUMNS - 1) / COLUMNS * COLUMNS; }

// Calls work(c) for some columns, most often COLUMNS of them, for which a compiler needs no loop.
template <typename Work>
inline void for_each_column(int64_t count, const Work& work) {
  if (count == COLUMNS) {
#pragma omp simd
    for (int64_t c = 0; c < COLUMNS; ++c) work(c);
  } else {
    for (int64_t c = 0; c < count; ++c) work(c);
  }
}

// Asks for the cache lines of COLUMNS floats, ahead of their use: processors foresee neither the rows of a panel, far from
// each other, nor where a tile will be written. Beyond the end of memory nothing happens.
inline void fetch(const float* from) {
  constexpr int64_t line = 64 / sizeof(float);
  for (int64_t c = 0; c < COLUMNS; c += line) __builtin_prefetch(from + c);
  __builtin_prefetch(from + COLUMNS - 1);
}

// The rows of a result, so many floats from each other.
struct Result {
  float* at;
  int64_t row;

  // Returns where entry (i, j) is, and asks for the one a tile further down.
  float* of(int64_t i, int64_t j) const {
    float* const entry = at + i * row + j;
    fetch(entry + ROWS * row);
    return entry;
  }

  // Writes `count` sums from entry (i, j) on, or adds them to what is there.
  void put(int64_t i, int64_t j, int64_t count, const float* sums, bool adds) const {
    float* const out = of(i, j);
    for_each_column(count, [&](int64_t c) { out[c] = adds ? out[c] + sums[c] : sums[c]; });
  }
};

// Transposes 4 x 4 floats.
inline void transpose(const float* from, int64_t from_row, float* to, int64_t to_row) {
  typedef float Four __attribute__((vector_size(16), aligned(4), may_alias));
  typedef int32_t Choice __attribute__((vector_size(16)));
  const auto row = [&](int64_t r) { return *reinterpret_cast<const Four*>(from + r * from_row); };
  const Choice low{0, 4, 1, 5}, high{2, 6, 3, 7}, first{0, 1, 4, 5}, second{2, 3, 6, 7};
  const Four a = __builtin_shuffle(row(0), row(1), low), b = __builtin_shuffle(row(2), row(3), low);
  const Four c = __builtin_shuffle(row(0), row(1), high), d = __builtin_shuffle(row(2), row(3), high);
  *reinterpret_cast<Four*>(to) = __builtin_shuffle(a, b, first);
  *reinterpret_cast<Four*>(to + to_row) = __builtin_shuffle(a, b, second);
  *reinterpret_cast<Four*>(to + 2 * to_row) = __builtin_shuffle(c, d, first);
  *reinterpret_cast<Four*>(to + 3 * to_row) = __builtin_shuffle(c, d, second);
}

// Writes so many columns of a matrix of `inner` rows, row by row, filled up with zeros to COLUMNS.
inline void pack(Matrix b, int64_t inner, int64_t count, float* to) {
  if (count < COLUMNS) std::memset(to, 0, sizeof(float) * COLUMNS * inner);
  if (b.column == 1) {
    for (int64_t k = 0; k < inner; ++k) {
      fetch(b.at + (k + AHEAD) * b.row);
      for_each_column(count, [&](int64_t c) { to[k * COLUMNS + c] = b.at[k * b.row + c]; });
    }
    return;
  }
  const int64_t whole = count == COLUMNS && b.row == 1 ? inner / 4 * 4 : 0;
  for (int64_t k = 0; k < whole; k += 4) {
    if (k % 16 == 0) {  // two cache lines further
      for (int64_t c = 0; c < COLUMNS; ++c) __builtin_prefetch(b.at + c * b.column + k + 32);
    }
    for (int64_t c = 0; c < COLUMNS; c += 4) transpose(b.at + c * b.column + k, b.column, to + k * COLUMNS + c, COLUMNS);
  }
  for (int64_t k = whole; k < inner; ++k) {
    for (int64_t c = 0; c < count; ++c) to[k * COLUMNS + c] = b.at[k * b.row + c * b.column];
  }
}

// Writes all columns of a matrix of `inner` rows, COLUMNS of them after the other.
inline void pack_panels(Matrix b, int64_t inner, int64_t columns, float* to) {
  for (int64_t j = 0; j < columns; j += COLUMNS) {
    pack({b.at + j * b.column, b.row, b.column}, inner, std::min(COLUMNS, columns - j), to + j * inner);
  }
}

// Packs the rows of a matrix whose columns are without gaps, for tiles that would read each from cache lines of its own.
inline PackedRows pack_rows(Matrix a, int64_t rows, int64_t inner, float* to) {
  constexpr int64_t TILES = 16;  // at once: each is written to a page of its own
  const int64_t row = inner + PackedRows::SPARE;
  int64_t whole = rows / ROWS * ROWS;  // of tiles of ROWS
  if (whole != rows && whole > 0) whole -= ROWS;
  for (int64_t first = 0; first < whole; first += TILES * ROWS) {
    const int64_t end = std::min(whole, first + TILES * ROWS);
    for (int64_t k = 0; k < inner; ++k) {
      const float* const column = a.at + k * a.column;
      float* const out = to + k * ROWS;
      for (int64_t i = first; i < end; i += ROWS) std::memcpy(out + i * row, column + i, sizeof(float) * ROWS);
    }
  }
  for (int64_t i = whole, some; i < rows; i += some) {
    some = tile_rows(rows - i);
    for (int64_t k = 0; k < inner; ++k) {
      for (int64_t r = 0; r < some; ++r) to[i * row + k * some + r] = a.at[k * a.column + i + r];
    }
  }
  return {to, row};
}

// Floats from the beginning of a cache line on.
class Memory {
 public:
  float* of(int64_t size) {
    const int64_t line = 64 / sizeof(float);
    if (static_cast<int64_t>(floats_.size()) < size + line) floats_.resize(size + line);
    return reinterpret_cast<float*>((reinterpret_cast<uintptr_t>(floats_.data()) + 63) / 64 * 64);
  }

 private:
  std::vector<float> floats_;
};

// Memory of the calling thread, kept for the next time; a second use asks for another `slot`.
inline float* scratch(int64_t size, int slot = 0) {
  static thread_local Memory memory[3];
  return memory[slot].of(size);
}

// Sums the products of R rows and a panel, in V vectors a row. Kept apart, so that all sums stay in registers.
template <int64_t R, int64_t V>
[[gnu::noinline]] void fill_tile(int64_t inner, const float* a, int64_t row, int64_t column, const float* panel,
                                 float* tile) {
  Vector sums[R][V];
#pragma GCC unroll 16
  for (int64_t r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int64_t v = 0; v < V; ++v) sums[r][v] = Vector{};
  }
#pragma GCC unroll 4  // beside a neighbour on the same core, every instruction counts
  for (int64_t k = 0; k < inner; ++k) {
    Vector b[V];
#pragma GCC unroll 4
    for (int64_t v = 0; v < V; ++v) {
      b[v] = *reinterpret_cast<const Vector*>(panel + k * COLUMNS + v * LANES);
#if defined(__x86_64__)
      asm("" : "+v"(b[v]));  // GCC would load it for each row, which takes longer
#endif
    }
#pragma GCC unroll 16
    for (int64_t r = 0; r < R; ++r) {
      const float x = a[r * row + k * column];
#pragma GCC unroll 4
      for (int64_t v = 0; v < V; ++v) sums[r][v] += x * b[v];
    }
  }
#pragma GCC unroll 16
  for (int64_t r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int64_t v = 0; v < V; ++v) *reinterpret_cast<Vector*>(tile + r * COLUMNS + v * LANES) = sums[r][v];
  }
}

// The same for any number of rows up to R and of columns up to those of V vectors.
template <int64_t R = ROWS, int64_t V = VECTORS>
void fill_tile(int64_t rows, int64_t columns, int64_t inner, Matrix a, const float* panel, float* tile) {
  if constexpr (R > 1) {
    if (rows < R) return fill_tile<R - 1, V>(rows, columns, inner, a, panel, tile);
  }
  if constexpr (V > 1) {
    if (columns <= (V - 1) * LANES) return fill_tile<R, V - 1>(rows, columns, inner, a, panel, tile);
  }
  fill_tile<R, V>(inner, a.at, a.row, a.column, panel, tile);
}

// Multiplies a [rows, inner], a Matrix or PackedRows, by a matrix of so many columns, of which panel(j, count) gives what
// was packed from column j on. Calls finish(i, j, count, sums) for `count` entries of row i of the result from column j on.
template <typename Left = Matrix, typename Panel, typename Finish>
void multiply(int64_t rows, int64_t columns, int64_t inner, Left a, const Panel& panel, const Finish& finish) {
  alignas(64) float tile[ROWS * COLUMNS];
  for (int64_t j = 0; j < columns; j += COLUMNS) {
    const int64_t count = std::min(COLUMNS, columns - j);
    const float* const packed = panel(j, count);
    for (int64_t i = 0, some; i < rows; i += some) {
      some = tile_rows(rows - i);
      fill_tile(some, count, inner, a.rows_from(i, some), packed, tile);
      for (int64_t r = 0; r < some; ++r) finish(i + r, j, count, tile + r * COLUMNS);
    }
  }
}

// As above, with b [inner, columns]; a panel is packed when it is its turn, and stays in the nearest cache.
template <typename Left = Matrix, typename Finish>
void multiply(int64_t rows, int64_t columns, int64_t inner, Left a, Matrix b, const Finish& finish) {
  float* const packed = scratch(COLUMNS * inner);
  const auto panel = [=](int64_t j, int64_t count) {
    pack({b.at + j * b.column, b.row, b.column}, inner, count, packed);
    return packed;
  };
  multiply(rows, columns, inner, a, panel, finish);
}

}  // namespace tigr
