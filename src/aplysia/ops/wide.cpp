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

// Columns of a panel, terms of a part, and rows at a time: as many as registers hold with two vectors each.
constexpr int64_t PANEL = 512, PART = 256;
constexpr int MOST = LANES == 16 ? 12 : 6;

template <int ROWS>
void product(const float* a, const float* b, int64_t terms, int64_t depth, int64_t columns, int64_t width, bool first, float* out) {
    int64_t c = 0;
    for (; c + 2 * LANES <= width; c += 2 * LANES) {
        vector sums[ROWS][2];
        for (int r = 0; r < ROWS; ++r)
            for (int v = 0; v < 2; ++v)
                sums[r][v] = first ? vector{} : *reinterpret_cast<const vector*>(out + r * columns + c + v * LANES);
        for (int64_t k = 0; k < terms; ++k) {
            const vector x = *reinterpret_cast<const vector*>(b + k * columns + c);
            const vector y = *reinterpret_cast<const vector*>(b + k * columns + c + LANES);
            for (int r = 0; r < ROWS; ++r) {
                const vector factor = vector{} + a[r * depth + k];
                sums[r][0] += factor * x;
                sums[r][1] += factor * y;
            }
        }
        for (int r = 0; r < ROWS; ++r)
            for (int v = 0; v < 2; ++v) *reinterpret_cast<vector*>(out + r * columns + c + v * LANES) = sums[r][v];
    }
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
    // As many panels for one thread as for another.
    const int64_t panels = (columns + PANEL * threads - 1) / (PANEL * threads) * threads;
    const int64_t share = ((columns + panels - 1) / panels + 2 * LANES - 1) / (2 * LANES) * (2 * LANES);
    const int64_t tiles = (rows + MOST - 1) / MOST;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t from = 0; from < columns; from += share)
        for (int64_t part = 0; part < depth; part += PART)
            for (int64_t t = 0; t < tiles; ++t) {
                const int64_t top = rows * t / tiles, size = rows * (t + 1) / tiles - top;
                of_rows(size, std::make_integer_sequence<int, MOST>())(
                    a + top * depth + part, b + part * columns + from, std::min(PART, depth - part), depth, columns,
                    std::min(share, columns - from), part == 0, out + top * columns + from
                );
            }
}
