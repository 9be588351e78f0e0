// What is done with pairs of steps in one pass over memory; see pairs.py, which states the equations. A pair's two steps lie one
// behind the other, `size` numbers each.

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace {

// Numbers of a step that are worked on before the next part.
constexpr int64_t PART = 4096;

// Call `work(pair, from, to)` for every part of every pair.
template <typename Work>
void over_pairs(int64_t pairs, int64_t size, int threads, Work work) {
    const int64_t parts = (size + PART - 1) / PART;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t p = 0; p < pairs * parts; ++p) {
        const int64_t from = p % parts * PART;
        work(p / parts, from, std::min(from + PART, size));
    }
}

}  // namespace

extern "C" {

// even[k] = (x[2k] + x[2k + 1])/2, odd[k] = (x[2k] − x[2k + 1])/2 + α·z[k]
void pair_halves(
    const float* x, const float* z, const float* alpha, float* odd, int64_t pairs, int64_t size, float* even, int threads
) {
    const float amplitude = *alpha;
    over_pairs(pairs, size, threads, [=](int64_t pair, int64_t from, int64_t to) {
        const float *noise = z + pair * size, *first = x + 2 * pair * size, *second = first + size;
        float *mean = even + pair * size, *rest = odd + pair * size;
#pragma omp simd
        for (int64_t i = from; i < to; ++i) {
            mean[i] = 0.5f * (first[i] + second[i]);
            rest[i] = std::fma(amplitude, noise[i], 0.5f * (first[i] - second[i]));
        }
    });
}

// sum[k] = x[2k] + x[2k + 1], difference[k] = x[2k] − x[2k + 1]
void pair_sums(const float* x, float* difference, int64_t pairs, int64_t size, float* sum, int threads) {
    over_pairs(pairs, size, threads, [=](int64_t pair, int64_t from, int64_t to) {
        const float *first = x + 2 * pair * size, *second = first + size;
        float *added = sum + pair * size, *taken = difference + pair * size;
#pragma omp simd
        for (int64_t i = from; i < to; ++i) {
            added[i] = first[i] + second[i];
            taken[i] = first[i] - second[i];
        }
    });
}

// out[2k] = even[k] + odd[k], out[2k + 1] = even[k] − odd[k]
void pair_joined(const float* even, const float* odd, int64_t pairs, int64_t size, float* out, int threads) {
    over_pairs(pairs, size, threads, [=](int64_t pair, int64_t from, int64_t to) {
        const float *mean = even + pair * size, *rest = odd + pair * size;
        float *first = out + 2 * pair * size, *second = first + size;
#pragma omp simd
        for (int64_t i = from; i < to; ++i) {
            first[i] = mean[i] + rest[i];
            second[i] = mean[i] - rest[i];
        }
    });
}

// out[2k] = x[2k] + α·z[k], out[2k + 1] = x[2k + 1] − α·z[k]
void add_pairs(const float* x, const float* z, const float* alpha, int64_t pairs, int64_t size, float* out, int threads) {
    const float amplitude = *alpha;
    over_pairs(pairs, size, threads, [=](int64_t pair, int64_t from, int64_t to) {
        const float *noise = z + pair * size, *first = x + 2 * pair * size, *second = first + size;
        float *one = out + 2 * pair * size, *other = one + size;
#pragma omp simd
        for (int64_t i = from; i < to; ++i) {
            one[i] = std::fma(amplitude, noise[i], first[i]);
            other[i] = std::fma(-amplitude, noise[i], second[i]);
        }
    });
}

}  // extern "C"
