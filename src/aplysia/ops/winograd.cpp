// Convolutions of 3 × 3 by Winograd's minimal filtering, on a CPU; see winograd.py, which states the equations and calls this.
//
// Images are cut into tiles of 4 × 4 outputs, each of which depends on 6 × 6 inputs. A run of tile rows is taken through all three
// stages before the next: its transformed inputs stay in the second cache, and no more of them is ever held. Channels are the lanes
// of the vectors, so images are turned to have them last on the way in and back on the way out.

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "native.h"

namespace {

constexpr int64_t TILE = 4, FILTER = 3, REACH = 6, TAPS = REACH * REACH;
#if defined(__AVX512F__)
constexpr int ROWS = 8;
#else
constexpr int ROWS = 4;
#endif
constexpr int64_t PANEL = 2 * LANES;
// Floats of transformed input that a thread works on at a time, and tiles between two visits to the sums of an update.
constexpr int64_t HELD = 1 << 17, TILES = 128;
// Terms of a sum that are added up one after the other.
constexpr int64_t DEPTH = 64;

inline vector load(const float* from) { return *reinterpret_cast<const vector*>(from); }
inline void store(float* to, vector value) { *reinterpret_cast<vector*>(to) = value; }
inline int64_t up(int64_t size, int64_t step) { return (size + step - 1) / step * step; }
// A distance between taps at which they do not all fall on the same few places of a cache.
inline int64_t apart(int64_t size) { return up(size, 2 * LANES) + LANES; }

// Tiles are told by their values at the points 0, ±NEAR, ±FAR and infinity; one row or column of each transformation.
constexpr float NEAR = 0.625f, FAR = 1.5f, NEAR2 = NEAR * NEAR, FAR2 = FAR * FAR;

inline void of_input(const vector* d, int64_t step, vector* o, int64_t o_step) {
    const vector d1 = d[step], d2 = d[2 * step], d3 = d[3 * step], d4 = d[4 * step];
    const vector even = d4 - FAR2 * d2, odd = NEAR * (d3 - FAR2 * d1), even2 = d4 - NEAR2 * d2, odd2 = FAR * (d3 - NEAR2 * d1);
    o[0] = d4 - (NEAR2 + FAR2) * d2 + (NEAR2 * FAR2) * d[0];
    o[o_step] = even + odd;
    o[2 * o_step] = even - odd;
    o[3 * o_step] = even2 + odd2;
    o[4 * o_step] = even2 - odd2;
    o[5 * o_step] = d[5 * step] - (NEAR2 + FAR2) * d3 + (NEAR2 * FAR2) * d1;
}

inline void of_output(const vector* m, int64_t step, vector* y, int64_t y_step) {
    const vector plus = m[step] + m[2 * step], minus = NEAR * (m[step] - m[2 * step]);
    const vector plus2 = m[3 * step] + m[4 * step], minus2 = FAR * (m[3 * step] - m[4 * step]);
    y[0] = m[0] + plus + plus2;
    y[y_step] = minus + minus2;
    y[2 * y_step] = NEAR2 * plus + FAR2 * plus2;
    y[3 * y_step] = NEAR2 * minus + FAR2 * minus2 + m[5 * step];
}

inline void of_error(const vector* g, int64_t step, vector* a, int64_t a_step) {
    const vector even = g[0] + NEAR2 * g[2 * step], odd = NEAR * (g[step] + NEAR2 * g[3 * step]);
    const vector even2 = g[0] + FAR2 * g[2 * step], odd2 = FAR * (g[step] + FAR2 * g[3 * step]);
    a[0] = g[0];
    a[a_step] = even + odd;
    a[2 * a_step] = even - odd;
    a[3 * a_step] = even2 + odd2;
    a[4 * a_step] = even2 - odd2;
    a[5 * a_step] = g[3 * step];
}

constexpr float AT_ZERO = 1.0f / (NEAR2 * FAR2);
constexpr float AT_NEAR = 0.5f / (NEAR2 * (NEAR2 - FAR2)), AT_FAR = 0.5f / (FAR2 * (FAR2 - NEAR2));

inline void of_filter(const vector* g, int64_t step, vector* u, int64_t u_step) {
    const vector even = AT_NEAR * (g[0] + NEAR2 * g[2 * step]), odd = (AT_NEAR * NEAR) * g[step];
    const vector even2 = AT_FAR * (g[0] + FAR2 * g[2 * step]), odd2 = (AT_FAR * FAR) * g[step];
    u[0] = AT_ZERO * g[0];
    u[u_step] = even + odd;
    u[2 * u_step] = even - odd;
    u[3 * u_step] = even2 + odd2;
    u[4 * u_step] = even2 - odd2;
    u[5 * u_step] = g[2 * step];
}

inline void of_update(const vector* m, int64_t step, vector* g, int64_t g_step) {
    const vector plus = AT_NEAR * (m[step] + m[2 * step]), minus = AT_NEAR * (m[step] - m[2 * step]);
    const vector plus2 = AT_FAR * (m[3 * step] + m[4 * step]), minus2 = AT_FAR * (m[3 * step] - m[4 * step]);
    g[0] = AT_ZERO * m[0] + plus + plus2;
    g[g_step] = NEAR * minus + FAR * minus2;
    g[2 * g_step] = NEAR2 * plus + FAR2 * plus2 + m[5 * step];
}

// c[r, :] = Σ_k a[r·a_row + k·a_step] · b[k, :] for R rows and V vectors, or that added: long sums are taken part by part, which
// keeps their rounding errors small.
template <int R, int V>
inline void part(
    int64_t depth, const float* a, int64_t a_row, int64_t a_step, const float* b, float* c, int64_t c_row, bool add
) {
    vector sums[R][V];
    for (int r = 0; r < R; ++r)
        for (int v = 0; v < V; ++v) sums[r][v] = vector{};
    for (int64_t k = 0; k < depth; ++k, a += a_step, b += PANEL) {
        vector row[V];
        for (int v = 0; v < V; ++v) row[v] = load(b + v * LANES);
        for (int r = 0; r < R; ++r) {
            const vector factor = vector{} + a[r * a_row];
            for (int v = 0; v < V; ++v) sums[r][v] += factor * row[v];
        }
    }
    for (int r = 0; r < R; ++r)
        for (int v = 0; v < V; ++v) {
            float* place = c + r * c_row + v * LANES;
            store(place, add ? load(place) + sums[r][v] : sums[r][v]);
        }
}

template <int V>
inline void product(
    int64_t depth, const float* a, int64_t a_row, int64_t a_step, const float* b, float* c, int64_t c_row, bool add
) {
    for (int64_t k = 0; k < depth; k += DEPTH)
        part<ROWS, V>(std::min(DEPTH, depth - k), a + k * a_step, a_row, a_step, b + k * PANEL, c, c_row, add || k > 0);
}

// The shape of one side of a convolution, and its cut into tiles.
struct Cut {
    int64_t channels, height, width, padding, down, across;

    // Rows of tiles, of all images.
    int64_t rows(int64_t samples) const { return samples * down; }

    // A tile row's inputs with the channels last, in a frame of zeros: [6, 4·across + 2, channels to whole vectors].
    int64_t frame_width() const { return across * TILE + REACH - TILE; }

    void frame(const float* images, int64_t row, float* out) const {
        const int64_t deep = up(channels, LANES), wide = frame_width();
        const float* image = images + row / down * channels * height * width;
        for (int64_t i = 0; i < REACH; ++i, out += wide * deep) {
            const int64_t y = row % down * TILE - padding + i;
            if (y < 0 || y >= height) {
                std::memset(out, 0, wide * deep * sizeof(float));
                continue;
            }
            const int64_t used = std::min(width, wide - padding);
            std::memset(out, 0, padding * deep * sizeof(float));
            transpose(image + y * width, height * width, channels, used, out + padding * deep, deep);
            std::memset(out + (padding + used) * deep, 0, (wide - padding - used) * deep * sizeof(float));
        }
    }

    // Bᵀ·d·B of each tile of a row: out[tap, tile, channel].
    void inputs(const float* framed, float* out, int64_t tap) const {
        const int64_t deep = up(channels, LANES), line = frame_width() * deep;
        for (int64_t x = 0; x < across; ++x)
            for (int64_t c = 0; c < deep; c += LANES) {
                const float* corner = framed + x * TILE * deep + c;
                vector some[TAPS], column[REACH];
                for (int64_t j = 0; j < REACH; ++j) {
                    for (int64_t i = 0; i < REACH; ++i) column[i] = load(corner + i * line + j * deep);
                    of_input(column, 1, some + j, REACH);
                }
                float* place = out + x * deep + c;
                for (int64_t i = 0; i < REACH; ++i) {
                    vector row[REACH];
                    of_input(some + i * REACH, 1, row, 1);
                    for (int64_t j = 0; j < REACH; ++j) store(place + (i * REACH + j) * tap, row[j]);
                }
            }
    }
};

thread_local Scratch<float> frames, transformed, products, turned;

}  // namespace

extern "C" {

// Columns of a panel of filters.
int64_t winograd_panel() { return PANEL; }

// Images in the order [sample, channel, row, column]; filters, transformed: [36, panels, channels, panel].
void winograd_forward(
    const float* drive, const float* filters, const float* bias, int64_t samples, int64_t channels, int64_t height, int64_t width,
    int64_t units, int64_t padding, int64_t out_height, int64_t out_width, float* out, int threads
) {
    const Cut cut{channels, height, width, padding, (out_height + TILE - 1) / TILE, (out_width + TILE - 1) / TILE};
    const int64_t deep = up(channels, LANES), panels = (units + PANEL - 1) / PANEL, line = cut.across * TILE;
    // Rows that fill whole blocks of the product, as many as stay in the cache.
    int64_t step = 1;
    while (step * cut.across % ROWS) ++step;
    const int64_t together = std::max<int64_t>(1, HELD / (TAPS * deep * cut.across * step)) * step;
    const int64_t tiles = up(together * cut.across, ROWS), all = cut.rows(samples);
    const int64_t tap_inputs = apart(tiles * deep), tap_sums = apart(tiles * PANEL);
#pragma omp parallel num_threads(threads)
    {
        float* framed = frames.of(REACH * cut.frame_width() * deep);
        float* inputs = transformed.of(TAPS * tap_inputs);
        float* sums = products.of(TAPS * tap_sums);
        float* rows = turned.of(TILE * line * PANEL);
#pragma omp for schedule(dynamic)
        for (int64_t first = 0; first < all; first += together) {
            const int64_t here = std::min(together, all - first), used = here * cut.across;
            for (int64_t r = 0; r < here; ++r) {
                cut.frame(drive, first + r, framed);
                cut.inputs(framed, inputs + r * cut.across * deep, tap_inputs);
            }
            for (int64_t p = 0; p < panels; ++p) {
                const int64_t wide = std::min(PANEL, units - p * PANEL);
                for (int64_t tap = 0; tap < TAPS; ++tap) {
                    const float* panel = filters + (tap * panels + p) * channels * PANEL;
                    for (int64_t t = 0; t < used; t += ROWS) {
                        const float* a = inputs + tap * tap_inputs + t * deep;
                        float* c = sums + tap * tap_sums + t * PANEL;
                        if (wide > LANES)
                            product<2>(channels, a, deep, 1, panel, c, PANEL, false);
                        else
                            product<1>(channels, a, deep, 1, panel, c, PANEL, false);
                    }
                }
                float offsets[PANEL] = {};
                if (bias) std::memcpy(offsets, bias + p * PANEL, wide * sizeof(float));
                for (int64_t r = 0; r < here; ++r) {
                    for (int64_t x = 0; x < cut.across; ++x)
                        for (int64_t v = 0; v < wide; v += LANES) {
                            const float* place = sums + (r * cut.across + x) * PANEL + v;
                            const vector offset = load(offsets + v);
                            vector some[TILE * REACH];
                            for (int64_t j = 0; j < REACH; ++j) {
                                vector column[REACH];
                                for (int64_t i = 0; i < REACH; ++i) column[i] = load(place + (i * REACH + j) * tap_sums);
                                of_output(column, 1, some + j, REACH);
                            }
                            for (int64_t i = 0; i < TILE; ++i) {
                                vector row[TILE];
                                of_output(some + i * REACH, 1, row, 1);
                                for (int64_t j = 0; j < TILE; ++j)
                                    store(rows + (i * line + x * TILE + j) * PANEL + v, row[j] + offset);
                            }
                        }
                    const int64_t image = (first + r) / cut.down, top = (first + r) % cut.down * TILE;
                    float* plane = out + (image * units + p * PANEL) * out_height * out_width;
                    for (int64_t i = 0; i < std::min(TILE, out_height - top); ++i)
                        transpose(
                            rows + i * line * PANEL, PANEL, out_width, wide, plane + (top + i) * out_width, out_height * out_width
                        );
                }
            }
        }
    }
}

// G·g·Gᵀ of filters [9, count], whole vectors of them: out [36, count].
void winograd_filters(const float* taps, int64_t count, float* out, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t at = 0; at < count; at += LANES) {
        vector filter[FILTER * FILTER], some[REACH * FILTER], whole[TAPS];
        for (int64_t k = 0; k < FILTER * FILTER; ++k) filter[k] = load(taps + k * count + at);
        for (int64_t j = 0; j < FILTER; ++j) of_filter(filter + j, FILTER, some + j, FILTER);
        for (int64_t i = 0; i < REACH; ++i) of_filter(some + i * FILTER, 1, whole + i * REACH, 1);
        for (int64_t k = 0; k < TAPS; ++k) store(out + k * count + at, whole[k]);
    }
}

// Gᵀ·m·G of sums [36, count], likewise: out [9, count].
void winograd_update(const float* sums, int64_t count, float* out, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t at = 0; at < count; at += LANES) {
        vector whole[TAPS], some[FILTER * REACH], filter[FILTER * FILTER];
        for (int64_t k = 0; k < TAPS; ++k) whole[k] = load(sums + k * count + at);
        for (int64_t j = 0; j < REACH; ++j) of_update(whole + j, REACH, some + j, REACH);
        for (int64_t i = 0; i < FILTER; ++i) of_update(some + i * REACH, 1, filter + i * FILTER, 1);
        for (int64_t k = 0; k < FILTER * FILTER; ++k) store(out + k * count + at, filter[k]);
    }
}

// out[tap, channel to whole vectors, unit to whole panels] = Σ over all tiles of transformed input · transformed δ.
void winograd_outer(
    const float* drive, const float* delta, int64_t samples, int64_t channels, int64_t height, int64_t width, int64_t units,
    int64_t padding, int64_t out_height, int64_t out_width, float* out, int threads
) {
    const Cut cut{channels, height, width, padding, (out_height + TILE - 1) / TILE, (out_width + TILE - 1) / TILE};
    const int64_t deep = up(channels, LANES), panels = (units + PANEL - 1) / PANEL, line = cut.across * TILE;
    const int64_t together = std::max<int64_t>(1, TILES / cut.across), tiles = together * cut.across, all = cut.rows(samples);
    const int64_t tap_inputs = apart(tiles * deep), tap_errors = apart(panels * tiles * PANEL);
    float* inputs = transformed.of(TAPS * tap_inputs);
    float* errors = products.of(TAPS * tap_errors);
#pragma omp parallel num_threads(threads)
    {
        float* framed = frames.of(std::max(REACH * cut.frame_width() * deep, TILE * line * panels * PANEL));
        for (int64_t first = 0; first < all; first += together) {
            const int64_t here = std::min(together, all - first), used = here * cut.across;
#pragma omp for schedule(dynamic)
            for (int64_t job = 0; job < 2 * here; ++job) {
                const int64_t r = job / 2, row = first + r;
                if (job % 2) {
                    cut.frame(drive, row, framed);
                    cut.inputs(framed, inputs + r * cut.across * deep, tap_inputs);
                    continue;
                }
                const int64_t top = row % cut.down * TILE, wide = panels * PANEL;
                const float* image = delta + row / cut.down * units * out_height * out_width;
                std::memset(framed, 0, TILE * line * wide * sizeof(float));
                for (int64_t i = 0; i < std::min(TILE, out_height - top); ++i)
                    transpose(
                        image + (top + i) * out_width, out_height * out_width, units, out_width, framed + i * line * wide, wide
                    );
                for (int64_t x = 0; x < cut.across; ++x)
                    for (int64_t v = 0; v < wide; v += LANES) {
                        vector some[REACH * TILE];
                        for (int64_t j = 0; j < TILE; ++j) {
                            vector column[TILE];
                            for (int64_t i = 0; i < TILE; ++i) column[i] = load(framed + (i * line + x * TILE + j) * wide + v);
                            of_error(column, 1, some + j, TILE);
                        }
                        float* place = errors + (v / PANEL * tiles + r * cut.across + x) * PANEL + v % PANEL;
                        for (int64_t i = 0; i < REACH; ++i) {
                            vector whole[REACH];
                            of_error(some + i * TILE, 1, whole, 1);
                            for (int64_t j = 0; j < REACH; ++j) store(place + (i * REACH + j) * tap_errors, whole[j]);
                        }
                    }
            }
#pragma omp for schedule(dynamic)
            for (int64_t tap = 0; tap < TAPS; ++tap)
                for (int64_t p = 0; p < panels; ++p) {
                    const float* panel = errors + tap * tap_errors + p * tiles * PANEL;
                    for (int64_t c = 0; c < deep; c += ROWS) {
                        const float* a = inputs + tap * tap_inputs + c;
                        float* sums = out + (tap * deep + c) * panels * PANEL + p * PANEL;
                        if (units - p * PANEL > LANES)
                            product<2>(used, a, 1, deep, panel, sums, panels * PANEL, first > 0);
                        else
                            product<1>(used, a, 1, deep, panel, sums, panels * PANEL, first > 0);
                    }
                }
        }
    }
}

}  // extern "C"
