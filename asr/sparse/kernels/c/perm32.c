/* perm32: fp32 weights whose lowest bits are the column; otherwise as perm16.
 *
 *   one vector (AVX-512):  | w | w | w | ... | w |      one word for each of the 16 rows of a group
 *                          row 0  1   2       15
 *
 *   one word:              | sign, exponent, 18 bits of the mantissa | c c c c c |
 *
 *   index:                 two stretches of 16 columns for each run of vectors; c is one of these 32
 *
 * A permutation reads only the low bits of a word, and a multiply-add may read them as a part of
 * the weight: they change it by at most 2^-19 of its size. So a vector is one load, one permutation
 * and one multiply-add. AVX2 has 8 rows, two stretches of 8 columns and 4 bits; it permutes each
 * stretch by itself, and the fourth bit chooses between them.
 */
#include <string.h>

#include "sparse.h"

#if ASR_X86
#include <immintrin.h>

#define FIRST_LEVEL (32 << 10) /* bytes; some processors have 48 KiB */

/* Columns of x as a table [stretch][column j][width], with zeros beyond the end: the parts of all
 * columns that a vector needs lie side by side. */
static __attribute__((noinline)) void copy(const float *const *x, int n, int columns, int width,
                                           float *table) {
    const int stretches = (columns + width - 1) / width;
    for (int s = 0; s < stretches; s++)
        for (int j = 0; j < n; j++) {
            const int left = columns - s * width;
            float *to = table + ((size_t)s * n + j) * width;
            if (left >= width) {
                memcpy(to, x[j] + s * width, sizeof(float) * width);
                continue;
            }
            memset(to, 0, sizeof(float) * width);
            memcpy(to, x[j] + s * width, sizeof(float) * left);
        }
}

/* Writes the sums of a group that is incomplete or whose rows are not consecutive. */
static __attribute__((noinline)) void scatter(const asr_matrix *m, int g, int lanes,
                                              const float *bias, const float *sums, float *y) {
    for (int i = 0; i < lanes; i++) {
        const int32_t row = m->blocks ? lanes * m->blocks[g] + i : m->order[lanes * g + i];
        if (row >= 0 && row < m->rows) y[row] = bias ? sums[i] + bias[row] : sums[i];
    }
}

#define AVX512 "avx512f,avx512vl,avx512dq"
#define AVX2 "avx2,fma"

/* Stops the compiler from loading a word twice, because the permutation overwrites one of its
 * operands: loads are what limits these loops, and a move costs nothing. */
#define IN_PLACE(x) __asm__("" : "+v"(x))

#define EACH(j) _Pragma("GCC unroll 8") for (int j = 0; j < n; j++)

/* The input of every lane of a vector, from the parts of one column in its two stretches. */
ASR_TARGET(AVX512)
ASR_INLINE __m512 look512(__m512 word, __m512 low, __m512 high) {
    return _mm512_permutex2var_ps(low, _mm512_castps_si512(word), high);
}

/* `run` vectors share their stretches, which stay in registers. Below 4 columns two sums each, so
 * that a step need not wait for the one before. */
ASR_TARGET(AVX512)
ASR_INLINE void columns512(const asr_matrix *m, const int n, const int run, const float *table,
                           const float *bias, float *const *y) {
    const float *w = m->words;
    const uint16_t *at = m->index;
    for (int g = 0; g < m->groups; g++) {
        int left = m->starts[g + 1] - m->starts[g];
        __m512 sum[2][ASR_PASS];
        EACH(j) sum[0][j] = sum[1][j] = _mm512_setzero_ps();
#define RUN(FIRST)                                                                            \
    {                                                                                         \
        const float *a = table + 2 * n * (size_t)at[0], *b = table + 2 * n * (size_t)at[1];   \
        __m512 low[ASR_PASS], high[ASR_PASS];                                                 \
        EACH(j) low[j] = _mm512_load_ps(a + 16 * j);                                          \
        EACH(j) high[j] = _mm512_load_ps(b + 16 * j);                                         \
        _Pragma("GCC unroll 4") for (int k = 0; k < run; k++, w += 16) {                      \
            __m512 word = _mm512_load_ps(w);                                                  \
            IN_PLACE(word);                                                                   \
            const int chain = n < 4 ? (FIRST + k) % 2 : 0;                                    \
            EACH(j) sum[chain][j] =                                                           \
                _mm512_fmadd_ps(word, look512(word, low[j], high[j]), sum[chain][j]);         \
        }                                                                                     \
        at += 2;                                                                              \
    }
        for (; left >= 2 * run; left -= 2 * run) {
            RUN(0)
            RUN(run)
        }
        if (left) RUN(0)
#undef RUN
        EACH(j) {
            __m512 all = n < 4 ? _mm512_add_ps(sum[0][j], sum[1][j]) : sum[0][j];
            const int32_t row = m->blocks ? 16 * m->blocks[g] : 0;
            if (!m->blocks || m->rows - row < 16) {
                float sums[16] __attribute__((aligned(64)));
                _mm512_store_ps(sums, all);
                scatter(m, g, 16, bias, sums, y[j]);
            } else {
                if (bias) all = _mm512_add_ps(all, _mm512_loadu_ps(bias + row));
                _mm512_storeu_ps(y[j] + row, all);
            }
        }
    }
}

ASR_TARGET(AVX2)
ASR_INLINE void columns256(const asr_matrix *m, const int n, const int run, const float *table,
                           const float *bias, float *const *y) {
    (void)run; /* 1: with 16 registers only, a table cannot stay in them */
    const float *w = m->words;
    const uint16_t *at = m->index;
    for (int g = 0; g < m->groups; g++) {
        const int vectors = m->starts[g + 1] - m->starts[g];
        __m256 sum[ASR_PASS];
#pragma GCC unroll 8
        for (int j = 0; j < n; j++) sum[j] = _mm256_setzero_ps();
        for (int v = 0; v < vectors; v++) {
            const __m256 word = _mm256_load_ps(w);
            const __m256i index = _mm256_castps_si256(word);
            const __m256 second = _mm256_castsi256_ps(_mm256_slli_epi32(index, 28));
            const float *a = table + n * (size_t)at[0];
            const float *b = table + n * (size_t)at[1];
            w += 8;
            at += 2;
#pragma GCC unroll 8
            for (int j = 0; j < n; j++) {
                const __m256 p = _mm256_permutevar8x32_ps(_mm256_load_ps(a + 8 * j), index);
                const __m256 q = _mm256_permutevar8x32_ps(_mm256_load_ps(b + 8 * j), index);
                sum[j] = _mm256_fmadd_ps(word, _mm256_blendv_ps(p, q, second), sum[j]);
            }
        }
#pragma GCC unroll 8
        for (int j = 0; j < n; j++) {
            const int32_t row = m->blocks ? 8 * m->blocks[g] : 0;
            if (!m->blocks || m->rows - row < 8) {
                float sums[8] __attribute__((aligned(32)));
                _mm256_store_ps(sums, sum[j]);
                scatter(m, g, 8, bias, sums, y[j]);
            } else {
                __m256 all = sum[j];
                if (bias) all = _mm256_add_ps(all, _mm256_loadu_ps(bias + row));
                _mm256_storeu_ps(y[j] + row, all);
            }
        }
    }
}

#define SWITCH(COLUMNS, RUN)                                      \
    switch (n) {                                                  \
        case 1: COLUMNS(m, 1, RUN, table, bias, y); break;        \
        case 2: COLUMNS(m, 2, RUN, table, bias, y); break;        \
        case 3: COLUMNS(m, 3, RUN, table, bias, y); break;        \
        case 4: COLUMNS(m, 4, RUN, table, bias, y); break;        \
        case 5: COLUMNS(m, 5, RUN, table, bias, y); break;        \
        case 6: COLUMNS(m, 6, RUN, table, bias, y); break;        \
        case 7: COLUMNS(m, 7, RUN, table, bias, y); break;        \
        default: COLUMNS(m, 8, RUN, table, bias, y); break;       \
    }

ASR_TARGET(AVX512)
static void pass512(const asr_matrix *m, int n, const float *table, const float *bias,
                    float *const *y) {
    if (m->run == 1)
        SWITCH(columns512, 1)
    else if (m->run == 2)
        SWITCH(columns512, 2)
    else if (m->run == 3)
        SWITCH(columns512, 3)
    else
        SWITCH(columns512, 4)
}

ASR_TARGET(AVX2)
static void pass256(const asr_matrix *m, int n, const float *table, const float *bias,
                    float *const *y) {
    SWITCH(columns256, 1)
}

/* In two passes where the table of all columns is larger than the first-level cache. */
#define KERNEL(NAME, PASS, WIDTH)                                                             \
    void NAME(const asr_matrix *m, const float *const *x, int n, const float *bias,           \
              float *const *y, void *scratch) {                                               \
        const size_t bytes = sizeof(float) * m->columns * (size_t)n;                          \
        const int first = n > 4 && bytes > FIRST_LEVEL ? (n + 1) / 2 : n;                     \
        copy(x, first, m->columns, WIDTH, scratch);                                           \
        PASS(m, first, scratch, bias, y);                                                     \
        if (first == n) return;                                                               \
        copy(x + first, n - first, m->columns, WIDTH, scratch);                               \
        PASS(m, n - first, scratch, bias, y + first);                                         \
    }

KERNEL(asr_perm32_avx512, pass512, 16)
KERNEL(asr_perm32_avx2, pass256, 8)

#endif
