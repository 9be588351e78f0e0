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

// How far rows and terms of the first matrix lie apart, so that it need not be turned in memory.
struct Strides {
    int64_t row, term;
};

// What becomes of what is there already.
enum Onto { LOST, ADDED, SCALED };

// So many vectors of so many rows.
template <int ROWS, int VECTORS>
inline void vectors(const float* a, const float* b, int64_t terms, Strides at, int64_t columns, Onto onto, float* out) {
    vector sums[ROWS][VECTORS];
    for (int r = 0; r < ROWS; ++r)
        for (int v = 0; v < VECTORS; ++v)
            sums[r][v] = onto == ADDED ? *reinterpret_cast<const vector*>(out + r * columns + v * LANES) : vector{};
    for (int64_t k = 0; k < terms; ++k) {
        vector row[VECTORS];
        for (int v = 0; v < VECTORS; ++v) row[v] = *reinterpret_cast<const vector*>(b + k * columns + v * LANES);
        for (int r = 0; r < ROWS; ++r) {
            const vector factor = vector{} + a[r * at.row + k * at.term];
            for (int v = 0; v < VECTORS; ++v) sums[r][v] += factor * row[v];
        }
    }
    for (int r = 0; r < ROWS; ++r)
        for (int v = 0; v < VECTORS; ++v) {
            vector* to = reinterpret_cast<vector*>(out + r * columns + v * LANES);
            *to = onto == SCALED ? *to * sums[r][v] : sums[r][v];
        }
}

template <int ROWS>
void product(const float* a, const float* b, int64_t terms, Strides at, int64_t columns, int64_t width, Onto onto, float* out) {
    int64_t c = 0;
    for (; c + 2 * LANES <= width; c += 2 * LANES) vectors<ROWS, 2>(a, b + c, terms, at, columns, onto, out + c);
    for (; c + LANES <= width; c += LANES) vectors<ROWS, 1>(a, b + c, terms, at, columns, onto, out + c);
    for (; c < width; ++c)
        for (int r = 0; r < ROWS; ++r) {
            float sum = onto == ADDED ? out[r * columns + c] : 0.0f;
            for (int64_t k = 0; k < terms; ++k) sum += a[r * at.row + k * at.term] * b[k * columns + c];
            out[r * columns + c] = onto == SCALED ? out[r * columns + c] * sum : sum;
        }
}

using Product = void (*)(const float*, const float*, int64_t, Strides, int64_t, int64_t, Onto, float*);

template <int... NUMBERS>
Product of_rows(int64_t rows, std::integer_sequence<int, NUMBERS...>) {
    static constexpr Product made[] = {product<NUMBERS + 1>...};
    return made[rows - 1];
}

// Units of a narrow product whose sums are in registers at once, of two rows each.
constexpr int ABREAST = LANES == 16 ? 10 : 5;

inline float added(vector sums) {
    float sum = 0.0f;
    for (int l = 0; l < LANES; ++l) sum += sums[l];
    return sum;
}

// Sums of two rows with the units from n on; those beyond the last one are its own once more.
inline void dots(
    const float* one, const float* two, const float* b, const float* bias, int64_t depth, int64_t n, int64_t units, float* out_one,
    float* out_two
) {
    vector first[ABREAST] = {}, second[ABREAST] = {};
    const float* weights[ABREAST];
    for (int u = 0; u < ABREAST; ++u) weights[u] = b + std::min(n + u, units - 1) * depth;
    int64_t k = 0;
    for (; k + LANES <= depth; k += LANES) {
        const vector x = *reinterpret_cast<const vector*>(one + k), y = *reinterpret_cast<const vector*>(two + k);
        for (int u = 0; u < ABREAST; ++u) {
            const vector w = *reinterpret_cast<const vector*>(weights[u] + k);
            first[u] += x * w;
            second[u] += y * w;
        }
    }
    for (int u = 0; u < ABREAST && n + u < units; ++u) {
        float x = added(first[u]), y = added(second[u]);
        for (int64_t rest = k; rest < depth; ++rest) {
            x += one[rest] * weights[u][rest];
            y += two[rest] * weights[u][rest];
        }
        const float offset = bias ? bias[n + u] : 0.0f;
        out_one[n + u] = x + offset;
        out_two[n + u] = y + offset;
    }
}

// The first part of a sum meets what is there as `onto` says, the others are added.
void wide(
    const float* a, const float* b, int64_t rows, int64_t depth, int64_t columns, Strides at, Onto onto, float* out, int threads
) {
    const int64_t tiles = (rows + MOST - 1) / MOST, wholes = columns / (2 * LANES);
    // Threads that write side by side into one row fetch each other's lines ahead, so rows are shared out where there are many.
    const bool tall = tiles >= 4 * threads;
    const int64_t stripes = tall ? threads : 1, sides = tall ? 1 : threads;
    const int64_t most = std::min(PANEL, std::max(NARROWEST, HELD / std::min(depth, PART)));
    // As many panels for one thread as for another, and each but the last of whole vectors.
    const int64_t panels = (columns + most * sides - 1) / (most * sides) * sides;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t unit = 0; unit < stripes * panels; ++unit) {
        const int64_t stripe = unit / panels, p = unit % panels;
        const int64_t from = wholes * p / panels * 2 * LANES;
        const int64_t width = (p + 1 < panels ? wholes * (p + 1) / panels * 2 * LANES : columns) - from;
        if (width == 0) continue;
        for (int64_t part = 0; part < depth; part += PART)
            for (int64_t t = tiles * stripe / stripes; t < tiles * (stripe + 1) / stripes; ++t) {
                const int64_t top = rows * t / tiles, size = rows * (t + 1) / tiles - top;
                of_rows(size, std::make_integer_sequence<int, MOST>())(
                    a + top * at.row + part * at.term, b + part * columns + from, std::min(PART, depth - part), at, columns, width,
                    part == 0 ? onto : ADDED, out + top * columns + from
                );
            }
    }
}

}  // namespace

// out[r, c] = Σ_k a[r, k]·b[k, c]; a's numbers are `row` and `term` apart.
extern "C" void wide_product(
    const float* a, const float* b, int64_t rows, int64_t depth, int64_t columns, int64_t row, int64_t term, float* out, int threads
) {
    wide(a, b, rows, depth, columns, {row, term}, LOST, out, threads);
}

// out[r, c] times that, for sums of one part.
extern "C" void scaled_product(
    const float* a, const float* b, int64_t rows, int64_t depth, int64_t columns, int64_t row, int64_t term, float* out, int threads
) {
    wide(a, b, rows, depth, columns, {row, term}, SCALED, out, threads);
}

// out[r, n] = Σ_k a[r, k]·b[n, k], plus bias[n] where there is one: every sum in lanes that are added up at its end.
extern "C" void narrow_product(
    const float* a, const float* b, const float* bias, int64_t rows, int64_t depth, int64_t units, float* out, int threads
) {
    const int64_t pairs = (rows + 1) / 2;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t pair = 0; pair < pairs; ++pair) {
        const int64_t r = 2 * pair, other = std::min(r + 1, rows - 1);
        for (int64_t n = 0; n < units; n += ABREAST)
            dots(a + r * depth, a + other * depth, b, bias, depth, n, units, out + r * units, out + other * units);
    }
}

// The same of (a ± factor·z), plus in the first step of each pair and minus in the second, of `batch` samples each.
extern "C" void narrow_pairs(
    const float* a, const float* z, const float* factor, const float* b, const float* bias, int64_t rows, int64_t depth, int64_t units,
    int64_t batch, float* out, int threads
) {
    const int64_t twos = (batch + 1) / 2;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t two = 0; two < rows / (2 * batch) * twos; ++two) {
        const int64_t pair = two / twos, r = 2 * (two % twos), other = std::min(r + 1, batch - 1);
        for (int64_t n = 0; n < units; n += ABREAST) {
            float noise[2][ABREAST];
            const float *here = z + pair * batch * depth, *steps = a + 2 * pair * batch * depth;
            const int64_t width = std::min<int64_t>(ABREAST, units - n);
            dots(here + r * depth, here + other * depth, b + n * depth, nullptr, depth, 0, width, noise[0], noise[1]);
            for (int step = 0; step < 2; ++step) {
                const float* at = steps + step * batch * depth;
                const float signed_factor = step ? -*factor : *factor;
                float* to = out + (2 * pair + step) * batch * units;
                dots(at + r * depth, at + other * depth, b, bias, depth, n, units, to + r * units, to + other * units);
                for (int64_t u = 0; u < width; ++u) {
                    to[r * units + n + u] += signed_factor * noise[0][u];
                    if (other != r) to[other * units + n + u] += signed_factor * noise[1][u];
                }
            }
        }
    }
}
