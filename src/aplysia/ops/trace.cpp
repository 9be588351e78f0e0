// Decaying traces a[t] = λ·a[t−1] + x[t] over a chunk, and sums over its steps, in one pass over memory; see scan.py, which calls
// this.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "native.h"

namespace {

// Entries that go through all steps before the next ones: what the first cache holds.
constexpr int64_t PART = 2048;

// Samples whose sums are made by one thread: as many as a line of the cache has numbers.
constexpr int64_t SAMPLES = 16;

}  // namespace

extern "C" {

// x [steps, size], before [size] or null. All traces go to out [steps, size], or the last one alone to out [size]. Backwards
// they are a[t] = λ·a[t+1] + x[t].
void decaying_traces(
    const float* x, const float* before, const float* decay, int64_t steps, int64_t size, int64_t backwards, int64_t last_alone,
    float* out, int threads
) {
    const float factor = *decay;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t from = 0; from < size; from += PART) {
        const int64_t to = std::min(from + PART, size);
        const float* previous = before;
        for (int64_t step = 0; step < steps; ++step) {
            const int64_t t = backwards ? steps - 1 - step : step;
            const float* now = x + t * size;
            float* trace = last_alone ? out : out + t * size;
            if (previous)
                for (int64_t i = from; i < to; ++i) trace[i] = std::fma(factor, previous[i], now[i]);
            else
                for (int64_t i = from; i < to; ++i) trace[i] = now[i];
            previous = trace;
        }
    }
}

// Σ_t weight[t]·x[t] of x [steps, size], summed in the order of time.
void weighted_sum(const float* x, const float* weights, int64_t steps, int64_t size, float* out, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t from = 0; from < size; from += PART) {
        const int64_t to = std::min(from + PART, size);
        for (int64_t i = from; i < to; ++i) out[i] = weights[0] * x[i];
        for (int64_t t = 1; t < steps; ++t)
            for (int64_t i = from; i < to; ++i) out[i] = std::fma(weights[t], x[t * size + i], out[i]);
    }
}

// The same of x [steps, batch, units], turned to [units, batch], and the plain sum over steps and samples.
void weighted_sums(
    const float* x, const float* weights, float* plain, int64_t steps, int64_t batch, int64_t units, float* out, int threads
) {
    // Of so many samples, so that no sum depends on the number of threads.
    const int64_t parts = (batch + SAMPLES - 1) / SAMPLES;
    std::vector<float> sums(parts * units);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t part = 0; part < parts; ++part) {
        static thread_local Scratch<float> room;
        float* made = room.of(SAMPLES * units);
        float* sum = sums.data() + part * units;
        const int64_t first = part * SAMPLES, count = std::min(SAMPLES, batch - first);
        for (int64_t b = first; b < first + count; ++b) {
            float* to = made + (b - first) * units;
            for (int64_t t = 0; t < steps; ++t) {
                const float *now = x + (t * batch + b) * units, weight = weights[t];
                if (t == 0)
#pragma omp simd
                    for (int64_t i = 0; i < units; ++i) to[i] = weight * now[i], sum[i] += now[i];
                else
#pragma omp simd
                    for (int64_t i = 0; i < units; ++i) to[i] = std::fma(weight, now[i], to[i]), sum[i] += now[i];
            }
        }
        transpose(made, units, count, units, out + first, batch);
    }
    std::copy(sums.begin(), sums.begin() + units, plain);
    for (int64_t part = 1; part < parts; ++part)
        for (int64_t i = 0; i < units; ++i) plain[i] += sums[part * units + i];
}

}  // extern "C"
