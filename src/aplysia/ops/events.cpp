// Sums over the entries of a drive that are not 0, on a CPU; see events.py, which builds and calls this.
//
// A *bag* is a list of (row of a table, factor); its sum is Σ factor·row. Forward, a sample is a bag of rows of the transposed
// weight; for the update, an input is a bag of rows of δ. Of a dense table a tile, some columns of some rows, lies in the first
// cache while all bags of a thread take what they need of it. A convolution is a dense product for each tap of its kernel: forward,
// a pixel is a bag of channels; for the update, a channel of a strip of the image is a bag of pixels, and one tap is the other
// shifted. Its tables change from tap to tap, so a panel as wide as the registers hold serves a block of bags from the second
// cache.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "native.h"

#if defined(_OPENMP)
#include <omp.h>
#endif
#if defined(__AVX__) && !defined(__AVX512F__)
constexpr int WIDE = 8;
#else
constexpr int WIDE = 16;
#endif
constexpr int NARROW = 4;

// Bags that are summed before the table's next panel is begun.
constexpr int64_t BLOCK = 64;

// Columns and rows of a dense table's tile, and bags of a thread that go through tiles together: their lists stay in the second
// cache.
constexpr int64_t COLUMNS = 64, ROWS = 160, BAGS = 512;
constexpr int ABREAST = COLUMNS / LANES;
// Rows that are fetched before their turn, and numbers of a line of the cache.
constexpr int64_t AHEAD = 16, LINE = 16;

namespace {

struct Bags {
    Scratch<int32_t> rows;
    Scratch<float> factors;
};
thread_local Bags bags;
thread_local Scratch<float> tile;
thread_local Scratch<int64_t> counts;

// Room for the bags of a dense product, tile by tile.
struct Lists {
    Scratch<int32_t> rows, inputs;
    Scratch<float> factors, values;
    Scratch<int64_t> ends, found;
};
thread_local Lists lists;
thread_local Scratch<float> panel;

// What a thread lets the others know of its bags; `ends` says where the list of each one begins, and the last one ends.
struct Part {
    const int32_t* rows;
    const float* factors;
    const int64_t* ends;
    int64_t first, count;
};

inline void fetch(const float* at) {
#if defined(__GNUC__)
    __builtin_prefetch(at);
#endif
}

inline int64_t thread_number() {
#if defined(_OPENMP)
    return omp_get_thread_num();
#else
    return 0;
#endif
}

inline int64_t thread_count() {
#if defined(_OPENMP)
    return omp_get_num_threads();
#else
    return 1;
#endif
}

template <int VECTORS>
inline void sum(const int32_t* rows, const float* factors, int64_t entries, const float* table, int64_t stride, float* out) {
    vector sums[VECTORS];
    for (int v = 0; v < VECTORS; ++v) sums[v] = *reinterpret_cast<const vector*>(out + v * LANES);
    for (int64_t k = 0; k < entries; ++k) {
        const float* row = table + rows[k] * stride;
        const vector factor = vector{} + factors[k];
        for (int v = 0; v < VECTORS; ++v) sums[v] += factor * *reinterpret_cast<const vector*>(row + v * LANES);
    }
    for (int v = 0; v < VECTORS; ++v) *reinterpret_cast<vector*>(out + v * LANES) = sums[v];
}

inline void sum_rest(
    const int32_t* rows, const float* factors, int64_t entries, const float* table, int64_t stride, float* out, int64_t width
) {
    for (int64_t k = 0; k < entries; ++k) {
        const float* row = table + rows[k] * stride;
        for (int64_t j = 0; j < width; ++j) out[j] += factors[k] * row[j];
    }
}

// The entries of `x[0 … size)` that are not 0, in order, their places times `scale`; room for `size + LANES` of them. Returns how
// many.
ALWAYS_INLINE int64_t gather(const float* x, int64_t size, int32_t scale, int32_t* rows, float* factors) {
    int64_t found = 0, j = 0;
#if defined(__AVX512F__)
    const __m512i counting = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    __m512i number = _mm512_mullo_epi32(counting, _mm512_set1_epi32(scale));
    for (; j + LANES <= size; j += LANES) {
        const __m512 value = _mm512_loadu_ps(x + j);
        const __mmask16 some = _mm512_cmp_ps_mask(value, _mm512_setzero_ps(), _CMP_NEQ_UQ);
        // Compressed in a register: compressing into memory is many times slower on some processors.
        _mm512_storeu_si512(rows + found, _mm512_maskz_compress_epi32(some, number));
        _mm512_storeu_ps(factors + found, _mm512_maskz_compress_ps(some, value));
        found += __builtin_popcount(some);
        number = _mm512_add_epi32(number, _mm512_set1_epi32(LANES * scale));
    }
#endif
    for (; j < size; ++j) {
        rows[found] = static_cast<int32_t>(j) * scale;
        factors[found] = x[j];
        found += x[j] != 0.0f;
    }
    return found;
}

// One bag's share of one tile: `out = start (+ out) + Σ factor·row`, `rows` as distances from the tile's begin.
template <bool FIRST>
ALWAYS_INLINE void add_tile(const int32_t* rows, const float* factors, int64_t entries, const float* table, const float* start, float* out) {
    vector sums[ABREAST];
    for (int v = 0; v < ABREAST; ++v) sums[v] = *reinterpret_cast<const vector*>((FIRST ? start : out) + v * LANES);
    for (int64_t k = 0; k < entries; ++k) {
        const float* row = table + rows[k];
        const vector factor = vector{} + factors[k];
        for (int v = 0; v < ABREAST; ++v) sums[v] += factor * *reinterpret_cast<const vector*>(row + v * LANES);
    }
    for (int v = 0; v < ABREAST; ++v) *reinterpret_cast<vector*>(out + v * LANES) = sums[v];
}

// The same for `count` bags.
template <bool FIRST>
ALWAYS_INLINE void add_tiles(
    const int64_t* ends, int64_t count, const int32_t* rows, const float* factors, const float* table, const float* start, float* out,
    int64_t stride
) {
    for (int64_t b = 0; b < count; ++b)
        add_tile<FIRST>(rows + ends[b], factors + ends[b], ends[b + 1] - ends[b], table, start, out + b * stride);
}

// Sums of `count ≤ BLOCK` bags over all columns of the table, added to `out`.
struct Block {
    const int32_t* rows[BLOCK];
    const float* factors[BLOCK];
    int64_t entries[BLOCK];
    int64_t count;

    template <int VECTORS>
    int64_t panels(int64_t from, const float* table, int64_t width, float* out) const {
        constexpr int64_t panel = VECTORS * LANES;
        for (; from + panel <= width; from += panel)
            for (int64_t b = 0; b < count; ++b)
                sum<VECTORS>(rows[b], factors[b], entries[b], table + from, width, out + b * width + from);
        return from;
    }

    void add(const float* table, int64_t width, float* out) const {
        int64_t from = panels<WIDE>(0, table, width, out);
        from = panels<NARROW>(from, table, width, out);
        from = panels<1>(from, table, width, out);
        if (from < width)
            for (int64_t b = 0; b < count; ++b)
                sum_rest(rows[b], factors[b], entries[b], table + from, width, out + b * width + from, width - from);
    }
};

// One row's share of a tile: later = now + decay·later, which goes into the table, too.
inline void trace_on(const float* now, float decay, int64_t width, float* later, float* table) {
    if (width == COLUMNS)
#pragma omp simd
        for (int64_t j = 0; j < COLUMNS; ++j) table[j] = later[j] = std::fma(decay, later[j], now[j]);
    else
        for (int64_t j = 0; j < width; ++j) table[j] = later[j] = std::fma(decay, later[j], now[j]);
}

// Sums of both steps of a pair, `distance` apart.
inline void split(const float* even, const float* odd, int64_t width, int64_t distance, float* out) {
#pragma omp simd
    for (int64_t j = 0; j < width; ++j) {
        out[j] = even[j] + odd[j];
        out[distance + j] = even[j] - odd[j];
    }
}

// A panel of the transposed weight, `[inputs, columns]`; columns beyond the last unit are 0.
inline void turn(const float* weight, int64_t p, int64_t inputs, int64_t units, float* to) {
    const int64_t from = p * COLUMNS, width = std::min(COLUMNS, units - from);
    if (width < COLUMNS) std::memset(to, 0, inputs * COLUMNS * sizeof(float));
    transpose(weight + from * inputs, inputs, width, inputs, to, COLUMNS);
}

// The columns of a thread where panels belong to threads: whole panels.
struct Columns {
    int64_t from, to;
};

inline Columns columns_of(int64_t units, int64_t me, int64_t team) {
    const int64_t panels = (units + COLUMNS - 1) / COLUMNS;
    return {panels * me / team * COLUMNS, std::min(panels * (me + 1) / team * COLUMNS, units)};
}

// Whether no thread has many more than another.
inline bool even_shares(int64_t units, int64_t team) {
    int64_t most = 0;
    for (int64_t t = 0; t < team; ++t) most = std::max(most, columns_of(units, t, team).to - columns_of(units, t, team).from);
    return 5 * most * team <= 6 * units;
}

}  // namespace

extern "C" {

// How many entries of `rows` rows, each `columns` long and `distance` behind the one before, are not 0.
int64_t count_events(const float* x, int64_t rows, int64_t columns, int64_t distance) {
    int64_t found = 0;
    for (int64_t r = 0; r < rows; ++r)
        for (int64_t j = 0; j < columns; ++j) found += x[r * distance + j] != 0.0f;
    return found;
}

// Columns of a panel of the table that `event_forward` needs room for.
int event_columns() { return static_cast<int>(COLUMNS); }

// out[r, n] = bias[n] + Σ_m drive[r, m]·weight[n, m]; `table` is room for the transposed weight, `[panels, inputs, columns]`. With
// `odd`, drives are those of pairs of steps of `batch` samples: odd is added to such a sum in the first step, and taken off it in the
// second.
void event_forward(
    const float* drive, const float* weight, const float* bias, float* table, const float* odd, int64_t samples, int64_t inputs,
    int64_t units, int64_t batch, float* out, int threads
) {
    const int64_t panels = (units + COLUMNS - 1) / COLUMNS, blocks = (inputs + ROWS - 1) / ROWS;
    std::vector<Part> parts(threads);
#pragma omp parallel num_threads(threads)
    {
        // A thread makes lists of its own samples. Where these are many, they meet all panels there; where they are few beside the
        // table, panels belong to threads in place of samples, and stay with them, if they can be shared out evenly.
        const int64_t me = thread_number(), team = thread_count();
        const int64_t rounds = ((samples + team - 1) / team + BAGS - 1) / BAGS;
        const bool shared = rounds > 1 || samples > 2 * inputs || (samples * 8 > inputs && !even_shares(units, team));
        const Columns mine = shared ? Columns{0, units} : columns_of(units, me, team);
        const int64_t first_part = shared ? me : 0, last_part = shared ? me + 1 : team;
        if (shared) {
#pragma omp for schedule(static)
            for (int64_t p = 0; p < panels; ++p) turn(weight, p, inputs, units, table + p * inputs * COLUMNS);
        }
        const int64_t begin = samples * me / team, end = samples * (me + 1) / team;
        for (int64_t round = 0; round < rounds; ++round) {
            const int64_t first = std::min(end, begin + round * BAGS), count = std::min(BAGS, end - first);
            int32_t* rows = lists.rows.of(count * inputs + LANES);
            float* factors = lists.factors.of(count * inputs + LANES);
            int64_t* ends = lists.ends.of(blocks * count + 1);
            int64_t used = 0;
            for (int64_t k = 0; k < blocks; ++k)
                for (int64_t b = 0; b < count; ++b) {
                    const float* x = drive + (first + b) * inputs + k * ROWS;
                    ends[k * count + b] = used;
                    used += gather(x, std::min(ROWS, inputs - k * ROWS), COLUMNS, rows + used, factors + used);
                }
            ends[blocks * count] = used;
            parts[me] = {rows, factors, ends, first, count};
#pragma omp barrier
            for (int64_t from = mine.from; from < mine.to; from += COLUMNS) {
                const int64_t p = from / COLUMNS, width = std::min(COLUMNS, units - from);
                // Sums that are not made where they will be.
                const bool apart = width < COLUMNS || odd;
                // A panel that serves once need not be kept.
                float* here = shared ? table + p * inputs * COLUMNS : panel.of(inputs * COLUMNS);
                if (!shared) turn(weight, p, inputs, units, here);
                float start[COLUMNS] = {};
                if (bias) std::memcpy(start, bias + from, width * sizeof(float));
                for (int64_t t = first_part; t < last_part; ++t) {
                    const Part& part = parts[t];
                    float* sums = apart ? tile.of(BAGS * COLUMNS) : out + part.first * units + from;
                    const int64_t stride = apart ? COLUMNS : units;
                    add_tiles<true>(part.ends, part.count, part.rows, part.factors, here, start, sums, stride);
                    for (int64_t k = 1; k < blocks; ++k) {
                        const float* rest = here + k * ROWS * COLUMNS;
                        add_tiles<false>(part.ends + k * part.count, part.count, part.rows, part.factors, rest, start, sums, stride);
                    }
                    for (int64_t b = 0; apart && b < part.count; ++b) {
                        const int64_t r = part.first + b;
                        if (odd)
                            split(sums + b * COLUMNS, odd + r * units + from, width, batch * units, out + (r + r / batch * batch) * units + from);
                        else
                            std::memcpy(out + r * units + from, sums + b * COLUMNS, width * sizeof(float));
                    }
                }
            }
#pragma omp barrier
        }
    }
}

// out[n, m] = Σ_r d[r, n]·drive[r, m] with d[r] = delta[r] + decay·d[r + batch], a step later.
void event_outer(
    const float* drive, const float* delta, const float* decay, int64_t samples, int64_t inputs, int64_t units, int64_t batch, float* out,
    int threads
) {
    const bool traced = batch < samples;
    const int64_t blocks = (samples + ROWS - 1) / ROWS;
    // Whole squares of a transposition.
    const int64_t share = ((inputs + threads - 1) / threads + 3) / 4 * 4;
    const float start[COLUMNS] = {};
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t part = 0; part < threads; ++part) {
        const int64_t end = std::min(inputs, (part + 1) * share);
        for (int64_t first = part * share; first < end; first += BAGS) {
            const int64_t count = std::min(BAGS, end - first);
            // Sample by sample as they lie in memory, and counted; then bag by bag.
            int32_t* here = lists.inputs.of(samples * count + LANES);
            float* values = lists.values.of(samples * count + LANES);
            int64_t* found = lists.found.of(samples + 1);
            int64_t* ends = lists.ends.of(blocks * count + 1);
            std::memset(ends, 0, (blocks * count + 1) * sizeof(int64_t));
            found[0] = 0;
            for (int64_t r = 0; r < samples; ++r) {
                found[r + 1] = found[r] + gather(drive + r * inputs + first, count, 1, here + found[r], values + found[r]);
                int64_t* after = ends + r / ROWS * count + 1;
                for (int64_t i = found[r]; i < found[r + 1]; ++i) ++after[here[i]];
            }
            for (int64_t i = 0; i < blocks * count; ++i) ends[i + 1] += ends[i];
            int32_t* rows = lists.rows.of(found[samples]);
            float* factors = lists.factors.of(found[samples]);
            for (int64_t r = 0; r < samples; ++r) {
                int64_t* place = ends + r / ROWS * count;
                for (int64_t i = found[r]; i < found[r + 1]; ++i) {
                    const int64_t at = place[here[i]]++;
                    rows[at] = static_cast<int32_t>(r % ROWS * COLUMNS);
                    factors[at] = values[i];
                }
            }
            // Each begin has moved to its end by now, which is the next one's begin.
            for (int64_t i = blocks * count; i > 0; --i) ends[i] = ends[i - 1];
            ends[0] = 0;
            float* sums = tile.of((BAGS + ROWS) * COLUMNS);
            float* table = sums + BAGS * COLUMNS;
            float* later = panel.of(traced ? batch * COLUMNS : 0);
            for (int64_t from = 0; from < units; from += COLUMNS) {
                const int64_t width = std::min(COLUMNS, units - from);
                if (width < COLUMNS) std::memset(table, 0, ROWS * COLUMNS * sizeof(float));
                if (traced) std::memset(later, 0, batch * COLUMNS * sizeof(float));
                // Back in time, as what comes from later asks for.
                for (int64_t k = blocks - 1; k >= 0; --k) {
                    const int64_t size = std::min(ROWS, samples - k * ROWS);
                    const float* rest = delta + k * ROWS * units + from;
                    if (traced)
                        for (int64_t r = size - 1; r >= 0; --r) {
                            // Rows lie too far apart for a processor to see the next ones coming.
                            const float* coming = rest + (k * ROWS + r >= AHEAD ? r - AHEAD : r) * units;
                            for (int64_t j = 0; j < width; j += LINE) fetch(coming + j);
                            trace_on(rest + r * units, *decay, width, later + (k * ROWS + r) % batch * COLUMNS, table + r * COLUMNS);
                        }
                    else if (width == COLUMNS)
                        for (int64_t r = 0; r < size; ++r) std::memcpy(table + r * COLUMNS, rest + r * units, COLUMNS * sizeof(float));
                    else
                        for (int64_t r = 0; r < size; ++r) std::memcpy(table + r * COLUMNS, rest + r * units, width * sizeof(float));
                    if (k == blocks - 1)
                        add_tiles<true>(ends + k * count, count, rows, factors, table, start, sums, COLUMNS);
                    else
                        add_tiles<false>(ends + k * count, count, rows, factors, table, start, sums, COLUMNS);
                }
                transpose(sums, COLUMNS, count, width, out + from * inputs + first, inputs);
            }
        }
    }
}

// Images in the order [sample, channel, row, column]. out[s, n, p] = bias[n] + Σ over taps and channels of drive·weight, with the
// weight as `table [kernel·kernel, channels, units]`.
void event_conv_forward(
    const float* drive, const float* table, const float* bias, int64_t samples, int64_t channels, int64_t height, int64_t width,
    int64_t units, int64_t kernel, int64_t stride, int64_t padding, int64_t out_height, int64_t out_width, float* out, int threads
) {
    const int64_t pixels = height * width, out_pixels = out_height * out_width;
#pragma omp parallel num_threads(threads)
    {
        int32_t* rows = bags.rows.of(pixels * channels);
        float* factors = bags.factors.of(pixels * channels);
        int64_t* entries = counts.of(pixels);
        float* sums = tile.of(BLOCK * units);
        int32_t here[BLOCK + LANES];
        float values[BLOCK + LANES];
#pragma omp for schedule(static)
        for (int64_t s = 0; s < samples; ++s) {
            std::memset(entries, 0, pixels * sizeof(int64_t));
            for (int64_t c = 0; c < channels; ++c)
                for (int64_t first = 0; first < pixels; first += BLOCK) {
                    const int64_t size = std::min(BLOCK, pixels - first);
                    const int64_t found = gather(drive + (s * channels + c) * pixels + first, size, 1, here, values);
                    for (int64_t k = 0; k < found; ++k) {
                        const int64_t pixel = first + here[k], place = pixel * channels + entries[pixel]++;
                        rows[place] = static_cast<int32_t>(c);
                        factors[place] = values[k];
                    }
                }
            for (int64_t first = 0; first < out_pixels; first += BLOCK) {
                Block block;
                block.count = std::min(BLOCK, out_pixels - first);
                for (int64_t b = 0; b < block.count; ++b) {
                    if (bias)
                        std::memcpy(sums + b * units, bias, units * sizeof(float));
                    else
                        std::memset(sums + b * units, 0, units * sizeof(float));
                }
                for (int64_t tap = 0; tap < kernel * kernel; ++tap) {
                    for (int64_t b = 0; b < block.count; ++b) {
                        const int64_t y = (first + b) / out_width * stride + tap / kernel - padding;
                        const int64_t x = (first + b) % out_width * stride + tap % kernel - padding;
                        const bool inside = y >= 0 && y < height && x >= 0 && x < width;
                        const int64_t pixel = inside ? y * width + x : 0;
                        block.rows[b] = rows + pixel * channels;
                        block.factors[b] = factors + pixel * channels;
                        block.entries[b] = inside ? entries[pixel] : 0;
                    }
                    block.add(table + tap * channels * units, units, sums);
                }
                transpose(sums, units, block.count, units, out + s * units * out_pixels + first, out_pixels);
            }
        }
    }
}

// Stride 1. out[thread, tap, c, n] = Σ over the samples of that thread and over pixels of drive·δ; their sum over threads is the
// update. `out [threads, kernel·kernel, channels, units]` holds zeros.
void event_conv_outer(
    const float* drive, const float* delta, int64_t samples, int64_t channels, int64_t height, int64_t width, int64_t units,
    int64_t kernel, int64_t padding, float* out, int threads
) {
    const int64_t pixels = height * width;
    const int64_t out_height = height + 2 * padding - kernel + 1, out_width = width + 2 * padding - kernel + 1;
    const int64_t out_pixels = out_height * out_width;
    // δ lies in a frame of zeros so wide that every pixel of the drive meets some row of it at every tap.
    const int64_t frame_width = width + kernel - 1, frame = (height + kernel - 1) * frame_width, margin = kernel - 1 - padding;
    const int64_t strip = std::max<int64_t>(1, BLOCK / width);
#pragma omp parallel num_threads(threads)
    {
        int32_t* rows = bags.rows.of(channels * (strip * width + LANES));
        float* factors = bags.factors.of(channels * (strip * width + LANES));
        int64_t* entries = counts.of(channels);
        float* framed = tile.of(frame * units);
        std::memset(framed, 0, frame * units * sizeof(float));
#pragma omp for schedule(static)
        for (int64_t s = 0; s < samples; ++s) {
            float* sums = out + thread_number() * kernel * kernel * channels * units;
            for (int64_t y = 0; y < out_height; ++y)
                transpose(
                    delta + s * units * out_pixels + y * out_width, out_pixels, units, out_width,
                    framed + ((y + margin) * frame_width + margin) * units, units
                );
            for (int64_t top = 0; top < height; top += strip) {
                const int64_t size = std::min(strip, height - top) * width, room = strip * width + LANES;
                for (int64_t c = 0; c < channels; ++c) {
                    int32_t* row = rows + c * room;
                    entries[c] = gather(drive + (s * channels + c) * pixels + top * width, size, 1, row, factors + c * room);
                    for (int64_t k = 0; k < entries[c]; ++k)
                        row[k] += static_cast<int32_t>(row[k] / width * (frame_width - width) + top * frame_width);
                }
                for (int64_t tap = 0; tap < kernel * kernel; ++tap) {
                    const int64_t shift = (kernel - 1 - tap / kernel) * frame_width + kernel - 1 - tap % kernel;
                    for (int64_t first = 0; first < channels; first += BLOCK) {
                        Block block;
                        block.count = std::min(BLOCK, channels - first);
                        for (int64_t b = 0; b < block.count; ++b) {
                            block.rows[b] = rows + (first + b) * room;
                            block.factors[b] = factors + (first + b) * room;
                            block.entries[b] = entries[first + b];
                        }
                        block.add(framed + shift * units, units, sums + (tap * channels + first) * units);
                    }
                }
            }
        }
    }
}

}  // extern "C"
