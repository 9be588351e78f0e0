// Averages over 2 × 2 windows of images, and their adjoint, on a CPU; see pool.py, which calls this.

#include <cstdint>
#include <cstring>

extern "C" {

// out[i, y, x] = (a + b + c + d)/4 over the window, added up in the order of memory, as torch does.
void average_pairs(const float* images, int64_t count, int64_t height, int64_t width, float* out, int threads) {
    const int64_t rows = height / 2, columns = width / 2;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t i = 0; i < count; ++i)
        for (int64_t y = 0; y < rows; ++y) {
            const float* upper = images + (i * height + 2 * y) * width;
            const float* lower = upper + width;
            float* mean = out + (i * rows + y) * columns;
            for (int64_t x = 0; x < columns; ++x)
                mean[x] = (((upper[2 * x] + upper[2 * x + 1]) + lower[2 * x]) + lower[2 * x + 1]) * 0.25f;
        }
}

// images[i, 2y + a, 2x + b] = means[i, y, x]/4; 0 in a last row or column that belongs to no window.
void average_pairs_adjoint(const float* means, int64_t count, int64_t height, int64_t width, float* images, int threads) {
    const int64_t rows = height / 2, columns = width / 2;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t i = 0; i < count; ++i) {
        for (int64_t y = 0; y < rows; ++y) {
            const float* mean = means + (i * rows + y) * columns;
            float* upper = images + (i * height + 2 * y) * width;
            for (int64_t x = 0; x < columns; ++x) upper[2 * x] = upper[2 * x + 1] = mean[x] * 0.25f;
            if (width % 2) upper[width - 1] = 0.0f;
            std::memcpy(upper + width, upper, width * sizeof(float));
        }
        if (height % 2) std::memset(images + (i * height + height - 1) * width, 0, width * sizeof(float));
    }
}

}  // extern "C"
