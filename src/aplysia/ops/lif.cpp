// The scan of leaky integrate-and-fire units and its adjoint; see scan.py, which states the equations and has the same in torch's
// operations. Each number is rounded as it is there, so that both agree bit for bit but for the sigmoid's exponential: no product
// may be joined with a sum.

#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#elif defined(__GNUC__)
#pragma GCC optimize("fp-contract=off")
#endif

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

namespace {

// Units whose membranes stay in the first cache while all steps go by.
constexpr int64_t SIDE = 1024;
enum Surrogate : int64_t { SIGMOID, TRIANGLE, ARCTAN, RECTANGLE };

struct Constants {
    float leak, threshold, reset, shape, half;
};

// Rounded once where the processor can.
inline float joined(float a, float b, float c) {
#if defined(__FP_FAST_FMAF)
    return std::fma(a, b, c);
#else
    return a * b + c;
#endif
}

// exp to within two units of the last place; infinite from 88.4 on, as its power of two is then, and what is no number stays none.
inline float exponential(float x) {
    const float bounded = std::min(std::max(x, -87.0f), 89.0f);
    // The sum has the whole number nearest to x/ln 2 in its last bits.
    constexpr float WHOLE = 12582912.0f;
    const float shifted = joined(bounded, 1.44269504f, WHOLE), n = shifted - WHOLE;
    const float r = joined(n, 2.12194440e-4f, joined(n, -0.693359375f, bounded));
    float p = 1.9875691500e-4f;
    p = joined(p, r, 1.3981999507e-3f);
    p = joined(p, r, 8.3334519073e-3f);
    p = joined(p, r, 4.1665795894e-2f);
    p = joined(p, r, 1.6666665459e-1f);
    p = joined(p, r, 5.0000001201e-1f);
    const float small = joined(p, r * r, r) + 1.0f;
    uint32_t bits;
    std::memcpy(&bits, &shifted, 4);
    bits = (bits << 23) + 0x3F800000u;
    float power;
    std::memcpy(&power, &bits, 4);
    return small * power;
}

template <int64_t S>
inline float slope_of(float x, const Constants& c) {
    if constexpr (S == SIGMOID) {
        const float y = 1.0f / (1.0f + exponential(-(c.shape * x)));
        return (c.shape * y) * (1.0f - y);
    } else if constexpr (S == TRIANGLE) {
        const float y = 1.0f - std::fabs(x) / c.shape;
        return (y < 0.0f ? 0.0f : y) / c.shape;
    } else if constexpr (S == ARCTAN) {
        const float y = c.shape * x;
        return (1.0f / (1.0f + y * y)) * c.half;
    } else {
        return (std::fabs(x) < c.half ? 1.0f : 0.0f) / c.shape;
    }
}

template <bool HARD>
inline float after(float u, float s, const Constants& c) {
    return HARD ? u * (1.0f - s) + c.reset * s : u - c.reset * s;
}

// `kept`: nothing, the slope at each step, or the membrane before the reset.
template <int64_t S, bool HARD, int KEPT>
void forward(
    const float* currents, const float* v, const Constants c, int64_t steps, int64_t units, int64_t stride, int64_t v_stride,
    float* kept, float* last, double* count, float* spikes, int threads
) {
    int64_t all = 0;
#pragma omp parallel for num_threads(threads) schedule(static) reduction(+ : all)
    for (int64_t first = 0; first < units; first += SIDE) {
        const int64_t size = std::min(SIDE, units - first);
        float membrane[SIDE];
        for (int64_t i = 0; i < size; ++i) membrane[i] = v[(first + i) * v_stride];
        for (int64_t t = 0; t < steps; ++t) {
            const float* current = currents + t * stride + first;
            float* fired = spikes + t * units + first;
            float* left = KEPT ? kept + t * units + first : nullptr;
            int32_t found = 0;
#pragma omp simd reduction(+ : found)
            for (int64_t i = 0; i < size; ++i) {
                const float u = c.leak * membrane[i] + current[i];
                const float s = u >= c.threshold ? 1.0f : 0.0f;
                membrane[i] = after<HARD>(u, s, c);
                fired[i] = s;
                if constexpr (KEPT == 1) left[i] = slope_of<S>(u - c.threshold, c);
                if constexpr (KEPT == 2) left[i] = u;
                found += u >= c.threshold;
            }
            all += found;
        }
        std::memcpy(last + first, membrane, size * sizeof(float));
    }
    if (count) *count = static_cast<double>(all);
}

template <int64_t S, bool HARD, bool DETACHED>
void backward(
    const float* membranes, const float* errors, const float* later, const Constants c, int64_t steps, int64_t units, float* earlier,
    float* out, int threads
) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t first = 0; first < units; first += SIDE) {
        const int64_t size = std::min(SIDE, units - first);
        float carried[SIDE];
        if (later)
            std::memcpy(carried, later + first, size * sizeof(float));
        else
            std::fill(carried, carried + size, 0.0f);
        for (int64_t t = steps - 1; t >= 0; --t) {
            const int64_t at = t * units + first;
#pragma omp simd
            for (int64_t i = 0; i < size; ++i) {
                const float u = membranes[at + i], s = u >= c.threshold ? 1.0f : 0.0f;
                const float psi = slope_of<S>(u - c.threshold, c);
                float through;
                if constexpr (HARD)
                    through = DETACHED ? 1.0f - s : (1.0f - s) - (u - c.reset) * psi;
                else
                    through = DETACHED ? 1.0f : 1.0f - c.reset * psi;
                const float delta = errors[at + i] * psi + carried[i] * through;
                carried[i] = c.leak * delta;
                out[at + i] = delta;
            }
        }
        std::memcpy(earlier + first, carried, size * sizeof(float));
    }
}

// Call `work` with the surrogate as a constant.
template <typename Work>
void with_surrogate(int64_t surrogate, Work work) {
    switch (surrogate) {
        case SIGMOID: return work(std::integral_constant<int64_t, SIGMOID>());
        case TRIANGLE: return work(std::integral_constant<int64_t, TRIANGLE>());
        case ARCTAN: return work(std::integral_constant<int64_t, ARCTAN>());
        default: return work(std::integral_constant<int64_t, RECTANGLE>());
    }
}

inline Constants constants(const float* given) { return {given[0], given[1], given[2], given[3], given[4]}; }

}  // namespace

extern "C" {

// currents [steps, units], steps `stride` apart; v [units], `v_stride` apart; given: leak, threshold, amount or value of the reset,
// shape of the surrogate, half; count: of all spikes, where it is asked for.
void lif_forward(
    const float* currents, const float* v, const float* given, float* kept, float* last, double* count, int64_t steps, int64_t units, int64_t stride,
    int64_t v_stride, int64_t surrogate, int64_t hard, int64_t keeps, float* spikes, int threads
) {
    with_surrogate(surrogate, [&](auto s) {
        constexpr int64_t S = decltype(s)::value;
        const auto run = hard ? (keeps == 1 ? forward<S, true, 1> : keeps == 2 ? forward<S, true, 2> : forward<S, true, 0>)
                              : (keeps == 1 ? forward<S, false, 1> : keeps == 2 ? forward<S, false, 2> : forward<S, false, 0>);
        run(currents, v, constants(given), steps, units, stride, v_stride, kept, last, count, spikes, threads);
    });
}

// The adjoint: of the spikes `errors`, of the membrane after the last step `later`, or none; gives that of the currents, and `earlier`.
void lif_backward(
    const float* membranes, const float* errors, const float* later, const float* given, float* earlier, int64_t steps, int64_t units,
    int64_t surrogate, int64_t hard, int64_t detached, float* out, int threads
) {
    with_surrogate(surrogate, [&](auto s) {
        constexpr int64_t S = decltype(s)::value;
        const auto run = hard ? (detached ? backward<S, true, true> : backward<S, true, false>)
                              : (detached ? backward<S, false, true> : backward<S, false, false>);
        run(membranes, errors, later, constants(given), steps, units, earlier, out, threads);
    });
}

}  // extern "C"
