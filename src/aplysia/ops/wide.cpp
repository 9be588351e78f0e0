// Products of matrices of which one side is short; see wide.py, which calls this.
//
// A panel of columns goes through all rows before the next one, a few rows at a time, whose sums stay in registers: what a panel
// reads of b stays in the cache, and what it writes goes out once. Long sums go part by part, in one order for any number of
// threads.

#include <algorithm>
#include <cstdint>
#include <utility>

#include "native.h"

namespace {

// Columns of a panel at most and at least, terms of a part, numbers of b that a panel's part has, and rows at a time: as many as
// registers hold with two vectors each.
constexpr int64_t PANEL = 512, NARROWEST = 64, PART = 512, HELD = 1 << 15;
constexpr int MOST = LANES == 16 ? 12 : 6;

// So many vectors of so many rows.
template <int ROWS, int VECTORS>
inline void vectors(const float* a, const float* b, int64_t terms, int64_t depth, int64_t columns, bool first, float* out) {
    vector sums[ROWS][VECTORS];
    for (int r = 0; r < ROWS; ++r)
        for (int v = 0; v < VECTORS; ++v)
            sums[r][v] = first ? vector{} : *reinterpret_cast<const vector*>(out + r * columns + v * LANES);
    for (int64_t k = 0; k < terms; ++k) {
        vector row[VECTORS];
        for (int v = 0; v < VECTORS; ++v) row[v] = *reinterpret_cast<const vector*>(b + k * columns + v * LANES);
        for (int r = 0; r < ROWS; ++r) {
            const vector factor = vector{} + a[r * depth + k];
            for (int v = 0; v < VECTORS; ++v) sums[r][v] += factor * row[v];
        }
    }
    for (int r = 0; r < ROWS; ++r)
        for (int v = 0; v < VECTORS; ++v) *reinterpret_cast<vector*>(out + r * columns + v * LANES) = sums[r][v];
}

template <int ROWS>
void product(const float* a, const float* b, int64_t terms, int64_t depth, int64_t columns, int64_t width, bool first, float* out) {
    int64_t c = 0;
    for (; c + 2 * LANES <= width; c += 2 * LANES) vectors<ROWS, 2>(a, b + c, terms, depth, columns, first, out + c);
    for (; c + LANES <= width; c += LANES) vectors<ROWS, 1>(a, b + c, terms, depth, columns, first, out + c);
    for (; c < width; ++c)
        for (int r = 0; r < ROWS; ++r) {
            float sum = first ? 0.0f : out[r * columns + c];
            for (int64_t k = 0; k < terms; ++k) sum += a[r * depth + k] * b[k * columns + c];
            out[r * columns + c] = sum;
        }
}

using Product = void (*)(const float*, const float*, int64_t, int64_t, int64_t, int64_t, bool, float*);

template <int... NUMBERS>
Product of_rows(int64_t rows, std::integer_sequence<int, NUMBERS...>) {
    static constexpr Product made[] = {product<NUMBERS + 1>...};
    return made[rows - 1];
}

}  // namespace

// out[r, c] = Σ_k a[r, k]·b[k, c]
extern "C" void wide_product(
    const float* a, const float* b, int64_t rows, int64_t depth, int64_t columns, float* out, int threads
) {
    const int64_t most = std::min(PANEL, std::max(NARROWEST, HELD / std::min(depth, PART)));
    // As many panels for one thread as for another, and each but the last of whole vectors.
    const int64_t panels = (columns + most * threads - 1) / (most * threads) * threads, wholes = columns / (2 * LANES);
    const int64_t tiles = (rows + MOST - 1) / MOST;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t p = 0; p < panels; ++p) {
        const int64_t from = wholes * p / panels * 2 * LANES;
        const int64_t width = (p + 1 < panels ? wholes * (p + 1) / panels * 2 * LANES : columns) - from;
        if (width == 0) continue;
        for (int64_t part = 0; part < depth; part += PART)
            for (int64_t t = 0; t < tiles; ++t) {
                const int64_t top = rows * t / tiles, size = rows * (t + 1) / tiles - top;
                of_rows(size, std::make_integer_sequence<int, MOST>())(
                    a + top * depth + part, b + part * columns + from, std::min(PART, depth - part), depth, columns, width, part == 0,
                    out + top * columns + from
                );
            }
    }
}
