// What the kernels in C++ share: vectors as wide as the processor's, memory of a thread, transposition.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>

#if defined(__AVX512F__)
#include <immintrin.h>
constexpr int LANES = 16;
#elif defined(__AVX__)
constexpr int LANES = 8;
#else
constexpr int LANES = 4;
#endif

// For what is called in innermost loops from several places, which compilers no longer put there by themselves.
#if defined(__GNUC__)
#define ALWAYS_INLINE inline __attribute__((always_inline))
#else
#define ALWAYS_INLINE inline
#endif

// The side of a square that is transposed in the first cache.
constexpr int64_t SQUARE = 16;

typedef float vector __attribute__((vector_size(LANES * sizeof(float)), aligned(4)));
typedef float quad __attribute__((vector_size(16), aligned(4)));

namespace {

// Memory that a thread keeps from call to call; it only grows. It begins with a line of the cache, since a vector across two lines
// is read twice.
template <typename T>
class Scratch {
  public:
    T* of(int64_t size) {
        if (size > size_) {
            held_.reset(new T[size + LINE / sizeof(T)]);
            size_ = size;
        }
        const uintptr_t at = reinterpret_cast<uintptr_t>(held_.get());
        return reinterpret_cast<T*>((at + LINE - 1) / LINE * LINE);
    }

  private:
    static constexpr uintptr_t LINE = 64;
    std::unique_ptr<T[]> held_;
    int64_t size_ = 0;
};

// `to[j·to_stride + i] = from[i·from_stride + j]` for i < rows, j < columns.
inline void transpose(const float* from, int64_t from_stride, int64_t rows, int64_t columns, float* to, int64_t to_stride) {
    for (int64_t i = 0; i < rows; i += SQUARE)
        for (int64_t j = 0; j < columns; j += SQUARE) {
            const int64_t last_i = std::min(i + SQUARE, rows), last_j = std::min(j + SQUARE, columns);
            int64_t b = j;
            for (; b + 4 <= last_j; b += 4) {
                int64_t a = i;
                for (; a + 4 <= last_i; a += 4) {
                    const float* corner = from + a * from_stride + b;
                    const quad r0 = *reinterpret_cast<const quad*>(corner);
                    const quad r1 = *reinterpret_cast<const quad*>(corner + from_stride);
                    const quad r2 = *reinterpret_cast<const quad*>(corner + 2 * from_stride);
                    const quad r3 = *reinterpret_cast<const quad*>(corner + 3 * from_stride);
                    const quad low01 = __builtin_shufflevector(r0, r1, 0, 4, 1, 5), low23 = __builtin_shufflevector(r2, r3, 0, 4, 1, 5);
                    const quad high01 = __builtin_shufflevector(r0, r1, 2, 6, 3, 7), high23 = __builtin_shufflevector(r2, r3, 2, 6, 3, 7);
                    float* turned = to + b * to_stride + a;
                    *reinterpret_cast<quad*>(turned) = __builtin_shufflevector(low01, low23, 0, 1, 4, 5);
                    *reinterpret_cast<quad*>(turned + to_stride) = __builtin_shufflevector(low01, low23, 2, 3, 6, 7);
                    *reinterpret_cast<quad*>(turned + 2 * to_stride) = __builtin_shufflevector(high01, high23, 0, 1, 4, 5);
                    *reinterpret_cast<quad*>(turned + 3 * to_stride) = __builtin_shufflevector(high01, high23, 2, 3, 6, 7);
                }
                for (; a < last_i; ++a)
                    for (int64_t k = b; k < b + 4; ++k) to[k * to_stride + a] = from[a * from_stride + k];
            }
            for (; b < last_j; ++b)
                for (int64_t a = i; a < last_i; ++a) to[b * to_stride + a] = from[a * from_stride + b];
        }
}

}  // namespace
