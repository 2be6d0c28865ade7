/* perm32: fp32 weights whose lowest bits are the column; otherwise as perm16.
 *
 *   one vector (AVX-512):  | w | w | w | ... | w |      one word for each of the 16 rows of a group
 *                          row 0  1   2       15
 *
 *   one word:              | sign, exponent, 18 bits of the mantissa | c c c c c |
 *
 *   index:                 two stretches of 16 columns for each vector; c is one of these 32
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

/* Below 4 columns two sums each, so that a step need not wait for the one before. */
ASR_TARGET(AVX512)
ASR_INLINE void columns512(const asr_matrix *m, const int n, const float *table, const float *bias,
                           float *const *y) {
    const float *w = m->words;
    const uint16_t *at = m->index;
    for (int g = 0; g < m->groups; g++) {
        int left = m->starts[g + 1] - m->starts[g];
        __m512 sum[ASR_PASS], more[ASR_PASS];
#pragma GCC unroll 8
        for (int j = 0; j < n; j++) sum[j] = more[j] = _mm512_setzero_ps();
        for (; left >= 2; left -= 2) {
            for (int k = 0; k < 2; k++) {
                const __m512 word = _mm512_load_ps(w + 16 * k);
                const float *a = table + 2 * n * (size_t)at[2 * k];
                const float *b = table + 2 * n * (size_t)at[2 * k + 1];
#pragma GCC unroll 8
                for (int j = 0; j < n; j++) {
                    const __m512 p = _mm512_permutex2var_ps(
                        _mm512_load_ps(a + 16 * j), _mm512_castps_si512(word),
                        _mm512_load_ps(b + 16 * j));
                    if (k && n < 4)
                        more[j] = _mm512_fmadd_ps(word, p, more[j]);
                    else
                        sum[j] = _mm512_fmadd_ps(word, p, sum[j]);
                }
            }
            w += 32;
            at += 4;
        }
        if (left) {
            const __m512 word = _mm512_load_ps(w);
            const float *a = table + 2 * n * (size_t)at[0];
            const float *b = table + 2 * n * (size_t)at[1];
#pragma GCC unroll 8
            for (int j = 0; j < n; j++)
                sum[j] = _mm512_fmadd_ps(
                    word,
                    _mm512_permutex2var_ps(_mm512_load_ps(a + 16 * j), _mm512_castps_si512(word),
                                           _mm512_load_ps(b + 16 * j)),
                    sum[j]);
            w += 16;
            at += 2;
        }
#pragma GCC unroll 8
        for (int j = 0; j < n; j++) {
            __m512 all = n < 4 ? _mm512_add_ps(sum[j], more[j]) : sum[j];
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
ASR_INLINE void columns256(const asr_matrix *m, const int n, const float *table, const float *bias,
                           float *const *y) {
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

#define KERNEL(NAME, SET, COLUMNS, WIDTH)                                                     \
    ASR_TARGET(SET)                                                                           \
    void NAME(const asr_matrix *m, const float *const *x, int n, const float *bias,           \
              float *const *y, void *scratch) {                                               \
        copy(x, n, m->columns, WIDTH, scratch);                                               \
        switch (n) {                                                                          \
            case 1: COLUMNS(m, 1, scratch, bias, y); break;                                   \
            case 2: COLUMNS(m, 2, scratch, bias, y); break;                                   \
            case 3: COLUMNS(m, 3, scratch, bias, y); break;                                   \
            case 4: COLUMNS(m, 4, scratch, bias, y); break;                                   \
            case 5: COLUMNS(m, 5, scratch, bias, y); break;                                   \
            case 6: COLUMNS(m, 6, scratch, bias, y); break;                                   \
            case 7: COLUMNS(m, 7, scratch, bias, y); break;                                   \
            default: COLUMNS(m, 8, scratch, bias, y); break;                                  \
        }                                                                                     \
    }

KERNEL(asr_perm32_avx512, AVX512, columns512, 16)
KERNEL(asr_perm32_avx2, AVX2, columns256, 8)

#endif
