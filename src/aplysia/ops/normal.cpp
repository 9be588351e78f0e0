// Normal numbers by a counter; see normal.py, which states the equations and has the same in torch's operations.
//
// Sixteen counters go side by side through plain loops, which compilers turn into vectors of whatever width there is: so the order
// of the numbers depends on no processor. Two such groups are on their way at once, since each round waits for the one before.

#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace {

constexpr int SIDE = 16, GROUP = 4 * SIDE, ROUNDS = 10, AT_ONCE = 2;

struct Words {
    uint32_t at[4][SIDE];
};

#if defined(__AVX512F__)
// High and low words of the products of sixteen words with one; compilers make no more than eight of these at a time.
inline __m512i products(__m512i words, uint32_t factor, __m512i& low) {
    const __m512i wide = _mm512_set1_epi64(factor);
    const __m512i even = _mm512_mul_epu32(words, wide), odd = _mm512_mul_epu32(_mm512_srli_epi64(words, 32), wide);
    low = _mm512_mask_shuffle_epi32(even, 0xAAAA, odd, _MM_PERM_CCAA);
    return _mm512_mask_shuffle_epi32(odd, 0x5555, even, _MM_PERM_DDBB);
}

inline void philox(uint64_t first, uint32_t key0, uint32_t key1, Words* w) {
    const __m512i lanes = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    __m512i x0[AT_ONCE], x1[AT_ONCE], x2[AT_ONCE], x3[AT_ONCE];
    for (int g = 0; g < AT_ONCE; ++g) {
        // Counters of a group share their upper half, since groups begin at multiples of their size.
        const uint64_t begin = first + static_cast<uint64_t>(g) * SIDE;
        x0[g] = _mm512_add_epi32(_mm512_set1_epi32(static_cast<int32_t>(begin)), lanes);
        x1[g] = _mm512_set1_epi32(static_cast<int32_t>(begin >> 32));
        x2[g] = x3[g] = _mm512_setzero_si512();
    }
    for (int round = 0; round < ROUNDS; ++round) {
        for (int g = 0; g < AT_ONCE; ++g) {
            __m512i a, b;
            const __m512i high_a = products(x0[g], 0xD2511F53u, a), high_b = products(x2[g], 0xCD9E8D57u, b);
            // 0x96: of three operands, each with each other by exclusive or.
            x0[g] = _mm512_ternarylogic_epi32(high_b, x1[g], _mm512_set1_epi32(static_cast<int32_t>(key0)), 0x96);
            x2[g] = _mm512_ternarylogic_epi32(high_a, x3[g], _mm512_set1_epi32(static_cast<int32_t>(key1)), 0x96);
            x1[g] = b;
            x3[g] = a;
        }
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
    for (int g = 0; g < AT_ONCE; ++g) {
        _mm512_storeu_si512(w[g].at[0], x0[g]);
        _mm512_storeu_si512(w[g].at[1], x1[g]);
        _mm512_storeu_si512(w[g].at[2], x2[g]);
        _mm512_storeu_si512(w[g].at[3], x3[g]);
    }
}
#else
inline void one_group(uint64_t first, uint32_t key0, uint32_t key1, Words& w) {
    for (int l = 0; l < SIDE; ++l) {
        const uint64_t counter = first + static_cast<uint64_t>(l);
        w.at[0][l] = static_cast<uint32_t>(counter);
        w.at[1][l] = static_cast<uint32_t>(counter >> 32);
        w.at[2][l] = w.at[3][l] = 0;
    }
    for (int round = 0; round < ROUNDS; ++round) {
#pragma omp simd
        for (int l = 0; l < SIDE; ++l) {
            const uint64_t a = 0xD2511F53ull * w.at[0][l], b = 0xCD9E8D57ull * w.at[2][l];
            const uint32_t x0 = static_cast<uint32_t>(b >> 32) ^ w.at[1][l] ^ key0;
            const uint32_t x2 = static_cast<uint32_t>(a >> 32) ^ w.at[3][l] ^ key1;
            w.at[0][l] = x0;
            w.at[1][l] = static_cast<uint32_t>(b);
            w.at[2][l] = x2;
            w.at[3][l] = static_cast<uint32_t>(a);
        }
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
}

inline void philox(uint64_t first, uint32_t key0, uint32_t key1, Words* w) {
    for (int g = 0; g < AT_ONCE; ++g) one_group(first + static_cast<uint64_t>(g) * SIDE, key0, key1, w[g]);
}
#endif

// −2·ln u for normal u in (0, 1], to float32's precision: u = 2^e·(1 + f) with 1 + f in [√½, √2).
inline float minus_two_log(float u) {
    int32_t bits;
    std::memcpy(&bits, &u, 4);
    const int32_t e = (bits - 0x3F3504F3) >> 23;
    bits -= e << 23;
    float m;
    std::memcpy(&m, &bits, 4);
    const float f = m - 1.0f, f2 = f * f;
    float p = 7.0376836292e-2f;
    p = p * f - 1.1514610310e-1f;
    p = p * f + 1.1676998740e-1f;
    p = p * f - 1.2420140846e-1f;
    p = p * f + 1.4249322787e-1f;
    p = p * f - 1.6668057665e-1f;
    p = p * f + 2.0000714765e-1f;
    p = p * f - 2.4999993993e-1f;
    p = p * f + 3.3333331174e-1f;
    const float scale = static_cast<float>(e);
    const float log = f + (p * f * f2 - 0.5f * f2 + scale * -2.12194440e-4f) + scale * 0.693359375f;
    return -2.0f * log;
}

// Two normal numbers of two words: radius and angle.
inline void normals(const uint32_t* first, const uint32_t* second, float* cosines, float* sines) {
#pragma omp simd
    for (int l = 0; l < SIDE; ++l) {
        const float u = (static_cast<float>(static_cast<int32_t>(first[l] >> 8)) + 0.5f) * 0x1p-24f;
        const float radius = std::sqrt(minus_two_log(u));
        // In quarters of a turn, −2 … 2: the whole ones choose and sign, the rest goes through the series of sine and cosine.
        const float turned = static_cast<float>(static_cast<int32_t>(second[l]) >> 8) * 0x1p-22f;
        const int32_t quarter = static_cast<int32_t>(turned + (turned < 0.0f ? -0.5f : 0.5f));
        const float a = (turned - static_cast<float>(quarter)) * 1.5707963268f, a2 = a * a;
        const float s = a + a * a2 * (-1.6666654611e-1f + a2 * (8.3321608736e-3f + a2 * -1.9515295891e-4f));
        const float c = 1.0f - 0.5f * a2 + a2 * a2 * (4.166664568298827e-2f + a2 * (-1.388731625493765e-3f + a2 * 2.443315711809948e-5f));
        const float even = quarter & 1 ? s : c, odd = quarter & 1 ? c : s;
        cosines[l] = ((quarter + 1) & 2 ? -radius : radius) * even;
        sines[l] = (quarter & 2 ? -radius : radius) * odd;
    }
}

// The numbers of the groups from one on that go at once, of which the last ones of a draw are cut.
inline void fill_groups(uint64_t key, int64_t group, int64_t count, float* out) {
    Words words[AT_ONCE];
    philox(static_cast<uint64_t>(group) * SIDE, static_cast<uint32_t>(key), static_cast<uint32_t>(key >> 32), words);
    const int64_t left = count - group * GROUP;
    float cut[AT_ONCE * GROUP];
    float* made = left < AT_ONCE * GROUP ? cut : out + group * GROUP;
    for (int g = 0; g < AT_ONCE; ++g) {
        const auto& at = words[g].at;
        float* to = made + g * GROUP;
        normals(at[0], at[1], to, to + SIDE);
        normals(at[2], at[3], to + 2 * SIDE, to + 3 * SIDE);
    }
    if (made == cut) std::memcpy(out + group * GROUP, cut, left * sizeof(float));
}

// Calls of that for so many numbers.
inline int64_t calls_for(int64_t count) { return (count + AT_ONCE * GROUP - 1) / (AT_ONCE * GROUP); }

// What torch's generator gives first for a seed, as a number of 63 bits.
inline uint64_t first_of(int64_t seed) {
    std::mt19937 engine(static_cast<uint32_t>(seed));
    const uint64_t high = engine(), low = engine();
    return (high << 32 | low) & 0x7FFFFFFFFFFFFFFFull;
}

}  // namespace

extern "C" {

void fill_normal(int64_t key, int64_t count, float* out, int threads) {
    const int64_t calls = calls_for(count);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t c = 0; c < calls; ++c) fill_groups(static_cast<uint64_t>(key), c * AT_ONCE, count, out);
}

// Each of `draws` times `count` numbers from a seed of its own.
void fill_normals(const int64_t* seeds, int64_t draws, int64_t count, float* out, int threads) {
    const int64_t calls = calls_for(count);
    std::vector<uint64_t> keys(draws);
    for (int64_t d = 0; d < draws; ++d) keys[d] = first_of(seeds[d]);
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int64_t i = 0; i < draws * calls; ++i) fill_groups(keys[i / calls], i % calls * AT_ONCE, count, out + i / calls * count);
}

}  // extern "C"
