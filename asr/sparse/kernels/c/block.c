/* block16: groups of 16 rows that keep the same columns; an input value meets 16 weights at once.
 *
 * Drawn with groups of 4 rows; the single zero inside a block is stored:
 *
 *   row 0   a . . e .        starts   0 2              of each group, in blocks
 *   row 1   b . . f .        index    0 3              column of each block
 *   row 2   c . . . .        words    a b c d  e f 0 h             fp32 and fp16: block by block
 *   row 3   d . . h .                 a e  b f  c 0  d h           int8: [pair of blocks][row][2]
 *
 * No permutation is needed: one input value is broadcast and multiplied with one vector of weights.
 * int8 weights go in pairs because the instruction multiplies pairs of 16-bit integers and adds
 * them; an odd number of blocks ends with one of zeros. Their input is rounded to integers of at
 * most INPUT, and sums are converted to floats after FLUSH pairs, before they can overflow.
 */
#include "sparse.h"

#define INPUT 8000.0f
#define FLUSH 1024 /* pairs: 2 * 1024 * 127 * 8000 < 2^31 */

/* Scales the sums of a group, adds the bias and writes them. */
static void store_group(const asr_matrix *m, int g, const float *bias, const float *sums,
                        float *y) {
    const int rows = m->rows - 16 * g < 16 ? m->rows - 16 * g : 16;
    for (int i = 0; i < rows; i++) {
        float sum = sums[i];
        if (m->scales) sum *= m->scales[16 * g + i];
        y[16 * g + i] = bias ? sum + bias[16 * g + i] : sum;
    }
}

/* An fp16 number. */
static float half(uint16_t h) {
    const uint32_t sign = (uint32_t)(h & 0x8000) << 16;
    const int exponent = h >> 10 & 31, fraction = h & 1023;
    union {
        uint32_t bits;
        float number;
    } u;
    if (exponent == 0) {
        const float tiny = (float)fraction * 0x1p-24f;
        return sign ? -tiny : tiny;
    }
    u.bits = exponent == 31 ? sign | 0x7f800000u | (uint32_t)fraction << 13
                            : sign | (uint32_t)(exponent + 112) << 23 | (uint32_t)fraction << 13;
    return u.number;
}

#define PLAIN(NAME, TYPE, FIRST, WEIGHT)                                                      \
    void NAME(const asr_matrix *m, const float *const *x, int n, const float *bias,           \
              float *const *y, void *scratch) {                                               \
        (void)scratch;                                                                        \
        const TYPE *words = m->words;                                                         \
        for (int g = 0; g < m->groups; g++) {                                                 \
            float sums[ASR_PASS][16] = {{0}};                                                 \
            for (int32_t k = m->starts[g]; k < m->starts[g + 1]; k++) {                       \
                const TYPE *w = words + (FIRST);                                              \
                float weights[16];                                                            \
                for (int i = 0; i < 16; i++) weights[i] = WEIGHT;                             \
                for (int j = 0; j < n; j++) {                                                 \
                    const float v = x[j][m->index[k]];                                        \
                    for (int i = 0; i < 16; i++) sums[j][i] += weights[i] * v;                \
                }                                                                             \
            }                                                                                 \
            for (int j = 0; j < n; j++) store_group(m, g, bias, sums[j], y[j]);               \
        }                                                                                     \
    }

PLAIN(asr_block_fp32_plain, float, 16 * (size_t)k, w[i])
PLAIN(asr_block_fp16_plain, uint16_t, 16 * (size_t)k, half(w[i]))
PLAIN(asr_block_int8_plain, int8_t, 32 * (size_t)(k / 2) + k % 2, (float)w[2 * i])

#if ASR_X86
#include <immintrin.h>

#define AVX512 "avx512f,avx512vl,avx512dq"
#define AVX512BW AVX512 ",avx512bw"
#define AVX2 "avx2,fma,f16c"

#define SWITCH(COLUMNS, ...)                         \
    switch (n) {                                     \
        case 1: COLUMNS(m, 1, __VA_ARGS__); break;   \
        case 2: COLUMNS(m, 2, __VA_ARGS__); break;   \
        case 3: COLUMNS(m, 3, __VA_ARGS__); break;   \
        case 4: COLUMNS(m, 4, __VA_ARGS__); break;   \
        case 5: COLUMNS(m, 5, __VA_ARGS__); break;   \
        case 6: COLUMNS(m, 6, __VA_ARGS__); break;   \
        case 7: COLUMNS(m, 7, __VA_ARGS__); break;   \
        default: COLUMNS(m, 8, __VA_ARGS__); break;  \
    }

#define LOAD16_FP32(w, k) _mm512_load_ps((w) + 64 * (k))
#define LOAD16_FP16(w, k) _mm512_cvtph_ps(_mm256_load_si256((const __m256i *)((w) + 32 * (k))))

/* 4 sums for each of 1 or 2 columns, 2 for 3 or 4: a step need not wait for the one before. */
#define FLOAT512(NAME, LOAD, BYTES)                                                                \
    ASR_TARGET(AVX512)                                                                        \
    ASR_INLINE void NAME##_columns(                                                           \
        const asr_matrix *m, const int n, const float *const *x, const float *bias,           \
        float *const *y) {                                                                    \
        const int chains = n < 3 ? 4 : n < 5 ? 2 : 1;                                         \
        const char *w = m->words;                                                             \
        const uint16_t *at = m->index;                                                        \
        for (int g = 0; g < m->groups; g++) {                                                 \
            int left = m->starts[g + 1] - m->starts[g];                                       \
            __m512 sum[4][ASR_PASS];                                                          \
            _Pragma("GCC unroll 4") for (int c = 0; c < chains; c++)                          \
                _Pragma("GCC unroll 8") for (int j = 0; j < n; j++) sum[c][j] =               \
                    _mm512_setzero_ps();                                                      \
            for (; left >= chains; left -= chains, w += chains * BYTES, at += chains)         \
                _Pragma("GCC unroll 4") for (int c = 0; c < chains; c++) {                    \
                    const __m512 word = LOAD(w, c);                                           \
                    _Pragma("GCC unroll 8") for (int j = 0; j < n; j++) sum[c][j] =           \
                        _mm512_fmadd_ps(word, _mm512_set1_ps(x[j][at[c]]), sum[c][j]);        \
                }                                                                             \
            for (; left > 0; left--, w += BYTES, at++) {                                      \
                const __m512 word = LOAD(w, 0);                                               \
                _Pragma("GCC unroll 8") for (int j = 0; j < n; j++) sum[0][j] =               \
                    _mm512_fmadd_ps(word, _mm512_set1_ps(x[j][*at]), sum[0][j]);              \
            }                                                                                 \
            const int rows = m->rows - 16 * g;                                                \
            const __mmask16 mask = rows >= 16 ? 0xffff : (__mmask16)((1u << rows) - 1);       \
            const __m512 add =                                                                \
                bias ? _mm512_maskz_loadu_ps(mask, bias + 16 * g) : _mm512_setzero_ps();      \
            _Pragma("GCC unroll 8") for (int j = 0; j < n; j++) {                             \
                __m512 all = sum[0][j];                                                       \
                _Pragma("GCC unroll 4") for (int c = 1; c < chains; c++) all =                \
                    _mm512_add_ps(all, sum[c][j]);                                            \
                _mm512_mask_storeu_ps(y[j] + 16 * g, mask, _mm512_add_ps(all, add));          \
            }                                                                                 \
        }                                                                                     \
    }                                                                                         \
    ASR_TARGET(AVX512)                                                                        \
    void NAME(const asr_matrix *m, const float *const *x, int n, const float *bias,           \
              float *const *y, void *scratch) {                                               \
        (void)scratch;                                                                        \
        SWITCH(NAME##_columns, x, bias, y)                                                    \
    }

FLOAT512(asr_block_fp32_avx512, LOAD16_FP32, 64)
FLOAT512(asr_block_fp16_avx512, LOAD16_FP16, 32)

#define LOAD8_FP32(w, k, h) _mm256_load_ps((const float *)(w) + 16 * (size_t)(k) + 8 * (h))
#define LOAD8_FP16(w, k, h) \
    _mm256_cvtph_ps(        \
        _mm_load_si128((const __m128i *)((const uint16_t *)(w) + 16 * (size_t)(k) + 8 * (h))))

/* A group is two vectors of 8 rows; sums of at most 4 columns fit the 16 registers. */
#define FLOAT256(NAME, LOAD)                                                                  \
    ASR_TARGET(AVX2)                                                                          \
    ASR_INLINE void NAME##_columns(                                                           \
        const asr_matrix *m, const int n, const float *const *x, const float *bias,           \
        float *const *y) {                                                                    \
        const int chains = n < 2 ? 4 : n < 3 ? 2 : 1;                                         \
        for (int g = 0; g < m->groups; g++) {                                                 \
            int32_t k = m->starts[g];                                                         \
            const int32_t end = m->starts[g + 1];                                             \
            __m256 low[4][4], high[4][4];                                                     \
            _Pragma("GCC unroll 4") for (int c = 0; c < chains; c++)                          \
                _Pragma("GCC unroll 4") for (int j = 0; j < n; j++) low[c][j] = high[c][j] =  \
                    _mm256_setzero_ps();                                                      \
            for (; k + chains <= end; k += chains)                                            \
                _Pragma("GCC unroll 4") for (int c = 0; c < chains; c++) {                    \
                    const __m256 w = LOAD(m->words, k + c, 0), v = LOAD(m->words, k + c, 1);  \
                    const size_t at = m->index[k + c];                                        \
                    _Pragma("GCC unroll 4") for (int j = 0; j < n; j++) {                     \
                        const __m256 in = _mm256_broadcast_ss(x[j] + at);                     \
                        low[c][j] = _mm256_fmadd_ps(w, in, low[c][j]);                        \
                        high[c][j] = _mm256_fmadd_ps(v, in, high[c][j]);                      \
                    }                                                                         \
                }                                                                             \
            for (; k < end; k++) {                                                            \
                const __m256 w = LOAD(m->words, k, 0), v = LOAD(m->words, k, 1);              \
                _Pragma("GCC unroll 4") for (int j = 0; j < n; j++) {                         \
                    const __m256 in = _mm256_broadcast_ss(x[j] + m->index[k]);                \
                    low[0][j] = _mm256_fmadd_ps(w, in, low[0][j]);                            \
                    high[0][j] = _mm256_fmadd_ps(v, in, high[0][j]);                          \
                }                                                                             \
            }                                                                                 \
            _Pragma("GCC unroll 4") for (int j = 0; j < n; j++) {                             \
                float sums[16] __attribute__((aligned(32)));                                  \
                _Pragma("GCC unroll 4") for (int c = 1; c < chains; c++) {                    \
                    low[0][j] = _mm256_add_ps(low[0][j], low[c][j]);                          \
                    high[0][j] = _mm256_add_ps(high[0][j], high[c][j]);                       \
                }                                                                             \
                _mm256_store_ps(sums, low[0][j]);                                             \
                _mm256_store_ps(sums + 8, high[0][j]);                                        \
                store_group(m, g, bias, sums, y[j]);                                          \
            }                                                                                 \
        }                                                                                     \
    }                                                                                         \
    ASR_TARGET(AVX2)                                                                          \
    void NAME(const asr_matrix *m, const float *const *x, int n, const float *bias,           \
              float *const *y, void *scratch) {                                               \
        (void)scratch;                                                                        \
        for (int done = 0; done < n; done += 4) {                                             \
            const float *const *from = x + done;                                              \
            float *const *to = y + done;                                                      \
            switch (n - done) {                                                               \
                case 1: NAME##_columns(m, 1, from, bias, to); break;                          \
                case 2: NAME##_columns(m, 2, from, bias, to); break;                          \
                case 3: NAME##_columns(m, 3, from, bias, to); break;                          \
                default: NAME##_columns(m, 4, from, bias, to); break;                         \
            }                                                                                 \
        }                                                                                     \
    }

FLOAT256(asr_block_fp32_avx2, LOAD8_FP32)
FLOAT256(asr_block_fp16_avx2, LOAD8_FP16)

/* Columns of x as a table [column][j][2] of 32-bit numbers: the rounded input once in the lower and
 * once in the upper half. Any two columns thus become a pair by one "or". */
ASR_TARGET(AVX2)
static void quantise(const float *const *x, int n, int columns, uint32_t *table, float *units) {
    for (int j = 0; j < n; j++) {
        const asr_rounding r = asr_rounding_of(INPUT, x[j], columns);
        units[j] = r.unit;
        for (int i = 0; i < columns; i++) {
            const int32_t v = _mm_cvtss_si32(_mm_set_ss(x[j][i] * r.scale));
            table[2 * ((size_t)i * n + j)] = (uint32_t)v & 0xffff;
            table[2 * ((size_t)i * n + j) + 1] = (uint32_t)v << 16;
        }
    }
}

#define DOT_BW(acc, w, p) _mm512_add_epi32(acc, _mm512_madd_epi16(w, p))
#define DOT_VNNI(acc, w, p) _mm512_dpwssd_epi32(acc, w, p)

#define INT512(NAME, SET, DOT)                                                                \
    ASR_TARGET(SET)                                                                           \
    ASR_INLINE void NAME##_columns(                                                           \
        const asr_matrix *m, const int n, const uint32_t *table, const float *units,          \
        const float *bias, float *const *y) {                                                 \
        for (int g = 0; g < m->groups; g++) {                                                 \
            const int8_t *w = (const int8_t *)m->words + 16 * (size_t)m->starts[g];           \
            const uint16_t *at = m->index + m->starts[g];                                     \
            int left = (m->starts[g + 1] - m->starts[g]) / 2;                                 \
            __m512 sum[ASR_PASS];                                                             \
            _Pragma("GCC unroll 8") for (int j = 0; j < n; j++) sum[j] = _mm512_setzero_ps(); \
            while (left > 0) {                                                                \
                const int some = left < FLUSH ? left : FLUSH;                                 \
                left -= some;                                                                 \
                __m512i acc[ASR_PASS];                                                        \
                _Pragma("GCC unroll 8") for (int j = 0; j < n; j++) acc[j] =                  \
                    _mm512_setzero_si512();                                                   \
                for (int v = 0; v < some; v++) {                                              \
                    const __m512i word =                                                      \
                        _mm512_cvtepi8_epi16(_mm256_load_si256((const __m256i *)w));          \
                    const uint32_t *a = table + 2 * n * (size_t)at[0];                        \
                    const uint32_t *b = table + 2 * n * (size_t)at[1] + 1;                    \
                    w += 32;                                                                  \
                    at += 2;                                                                  \
                    _Pragma("GCC unroll 8") for (int j = 0; j < n; j++) {                     \
                        const __m512i p =                                                     \
                            _mm512_or_si512(_mm512_set1_epi32((int32_t)a[2 * j]),             \
                                            _mm512_set1_epi32((int32_t)b[2 * j]));            \
                        acc[j] = DOT(acc[j], word, p);                                        \
                    }                                                                         \
                }                                                                             \
                _Pragma("GCC unroll 8") for (int j = 0; j < n; j++) sum[j] =                  \
                    _mm512_add_ps(sum[j], _mm512_cvtepi32_ps(acc[j]));                        \
            }                                                                                 \
            const int rows = m->rows - 16 * g;                                                \
            const __mmask16 mask = rows >= 16 ? 0xffff : (__mmask16)((1u << rows) - 1);       \
            const __m512 scale = _mm512_load_ps(m->scales + 16 * g);                          \
            const __m512 add =                                                                \
                bias ? _mm512_maskz_loadu_ps(mask, bias + 16 * g) : _mm512_setzero_ps();      \
            _Pragma("GCC unroll 8") for (int j = 0; j < n; j++) _mm512_mask_storeu_ps(        \
                y[j] + 16 * g, mask,                                                          \
                _mm512_fmadd_ps(sum[j], _mm512_mul_ps(scale, _mm512_set1_ps(units[j])),       \
                                add));                                                        \
        }                                                                                     \
    }                                                                                         \
    ASR_TARGET(SET)                                                                           \
    void NAME(const asr_matrix *m, const float *const *x, int n, const float *bias,           \
              float *const *y, void *scratch) {                                               \
        float units[ASR_PASS];                                                                \
        const uint32_t *table = scratch;                                                      \
        quantise(x, n, m->columns, scratch, units);                                           \
        SWITCH(NAME##_columns, table, units, bias, y)                                         \
    }

INT512(asr_block_int8_bw, AVX512BW, DOT_BW)
INT512(asr_block_int8_vnni, AVX512BW ",avx512vnni", DOT_VNNI)

ASR_TARGET(AVX2)
ASR_INLINE void int256(const asr_matrix *m, const int n, const uint32_t *table, const int stride,
                       const float *units, const float *bias, float *const *y) {
    for (int g = 0; g < m->groups; g++) {
        const int8_t *w = (const int8_t *)m->words + 16 * (size_t)m->starts[g];
        const uint16_t *at = m->index + m->starts[g];
        int left = (m->starts[g + 1] - m->starts[g]) / 2;
        float sums[4][16] = {{0}};
        while (left > 0) {
            const int some = left < FLUSH ? left : FLUSH;
            left -= some;
            __m256i low[4], high[4];
#pragma GCC unroll 4
            for (int j = 0; j < n; j++) low[j] = high[j] = _mm256_setzero_si256();
            for (int v = 0; v < some; v++) {
                const __m256i first = _mm256_cvtepi8_epi16(_mm_load_si128((const __m128i *)w));
                const __m256i second =
                    _mm256_cvtepi8_epi16(_mm_load_si128((const __m128i *)(w + 16)));
                const uint32_t *a = table + 2 * stride * (size_t)at[0];
                const uint32_t *b = table + 2 * stride * (size_t)at[1] + 1;
                w += 32;
                at += 2;
#pragma GCC unroll 4
                for (int j = 0; j < n; j++) {
                    const __m256i p = _mm256_or_si256(_mm256_set1_epi32((int32_t)a[2 * j]),
                                                      _mm256_set1_epi32((int32_t)b[2 * j]));
                    low[j] = _mm256_add_epi32(low[j], _mm256_madd_epi16(first, p));
                    high[j] = _mm256_add_epi32(high[j], _mm256_madd_epi16(second, p));
                }
            }
#pragma GCC unroll 4
            for (int j = 0; j < n; j++) {
                int32_t whole[16] __attribute__((aligned(32)));
                _mm256_store_si256((__m256i *)whole, low[j]);
                _mm256_store_si256((__m256i *)(whole + 8), high[j]);
                for (int i = 0; i < 16; i++) sums[j][i] += (float)whole[i] * units[j];
            }
        }
        for (int j = 0; j < n; j++) store_group(m, g, bias, sums[j], y[j]);
    }
}

ASR_TARGET(AVX2)
void asr_block_int8_avx2(const asr_matrix *m, const float *const *x, int n, const float *bias,
                         float *const *y, void *scratch) {
    float units[ASR_PASS];
    quantise(x, n, m->columns, scratch, units);
    for (int done = 0; done < n; done += 4) {
        const uint32_t *table = (const uint32_t *)scratch + 2 * done;
        switch (n - done) {
            case 1: int256(m, 1, table, n, units + done, bias, y + done); break;
            case 2: int256(m, 2, table, n, units + done, bias, y + done); break;
            case 3: int256(m, 3, table, n, units + done, bias, y + done); break;
            default: int256(m, 4, table, n, units + done, bias, y + done); break;
        }
    }
}

#endif
