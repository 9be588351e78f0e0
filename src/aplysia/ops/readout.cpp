// What a loss on the readout needs, and numbers of spikes; see readout.py, which states the equations.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "native.h"

namespace {

// Rows that are summed before the next ones, so that no sum depends on the number of threads.
constexpr int64_t PART = 64;

// Numbers whose sum in float32 is exact where they are whole and small.
constexpr int64_t RUN = 4096;

}  // namespace

extern "C" {

// error[r, k] = p·(softmax_k(x[r]) − y[r, k]) + q·(x[r, k] − y[r, k]) with y one-hot of labels[r % batch], and the loss of which it
// is the derivative: p times the cross-entropy and q/2 times the squared distances, over all rows. Returns how many labels are none.
int64_t softmax_error(
    const float* x, const int64_t* labels, const float* shares, float* loss, int64_t rows, int64_t batch, int64_t classes, float* error,
    int threads
) {
    const float p = shares[0], q = shares[1];
    const int64_t parts = (rows + PART - 1) / PART;
    std::vector<double> sums(3 * parts);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t part = 0; part < parts; ++part) {
        double entropy = 0.0, squares = 0.0, strangers = 0.0;
        for (int64_t r = part * PART; r < std::min(rows, (part + 1) * PART); ++r) {
            const float* row = x + r * classes;
            float* made = error + r * classes;
            const int64_t label = labels[r % batch];
            float largest = row[0], sum = 0.0f, square = 0.0f;
            for (int64_t k = 1; k < classes; ++k) largest = std::max(largest, row[k]);
            // A row that is not finite has no softmax, and nothing here hides that.
            for (int64_t k = 0; k < classes; ++k) largest = row[k] != row[k] ? row[k] : largest;
            for (int64_t k = 0; k < classes; ++k) sum += made[k] = std::exp(row[k] - largest);
            const float scale = p / sum;
            for (int64_t k = 0; k < classes; ++k) {
                square += row[k] * row[k];
                made[k] = made[k] * scale + q * row[k];
            }
            if (label < 0 || label >= classes) {
                strangers += 1.0;
                continue;
            }
            made[label] -= p + q;
            entropy += std::log(static_cast<double>(sum)) + (static_cast<double>(largest) - row[label]);
            squares += static_cast<double>(square) + (1.0 - 2.0 * static_cast<double>(row[label]));
        }
        sums[3 * part] = entropy;
        sums[3 * part + 1] = squares;
        sums[3 * part + 2] = strangers;
    }
    double found[3] = {};
    for (int64_t part = 0; part < parts; ++part)
        for (int i = 0; i < 3; ++i) found[i] += sums[3 * part + i];
    *loss = static_cast<float>(p * found[0] + 0.5 * q * found[1]);
    return static_cast<int64_t>(found[2]);
}

// The sum of all numbers.
void total(const float* x, int64_t count, double* out, int threads) {
    const int64_t runs = (count + RUN - 1) / RUN;
    std::vector<double> sums(runs);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t run = 0; run < runs; ++run) {
        float lanes[LANES] = {};
        const int64_t end = std::min(count, (run + 1) * RUN);
        int64_t i = run * RUN;
        for (; i + LANES <= end; i += LANES)
            *reinterpret_cast<vector*>(lanes) += *reinterpret_cast<const vector*>(x + i);
        double sum = 0.0;
        for (int l = 0; l < LANES; ++l) sum += lanes[l];
        for (; i < end; ++i) sum += x[i];
        sums[run] = sum;
    }
    *out = 0.0;
    for (const double sum : sums) *out += sum;
}

}  // extern "C"
