/* perm16: 16-bit words, each a weight and the column it belongs to.
 *
 * The low 6 bits of a word choose one of 64 columns, which lie in two registers; the whole word,
 * read as an integer, is the weight times the scale of its row to +-32. So a vector of 32 words is
 * at once the index of one permutation and a factor of one multiplication: words 2i and 2i + 1
 * belong to row i of a group of 16. Each vector names the two stretches of 32 columns it looks
 * into (layout.c chooses them so that few words are padding). The input is rounded to +-INPUT of
 * its largest value, and sums are turned to floats every FLUSH vectors, before they can overflow.
 */
#include "sparse.h"

#if ASR_X86
#include <immintrin.h>
#include <math.h>

#define INPUT 4096.0f /* layout.c's bound on sums is made for it */
#define FLUSH 16

#define BASE "avx512f,avx512vl,avx512dq,avx512bw"

/* Columns of x as a table [stretch][column j][32] of int16; units[j] = what one of them is worth */
ASR_TARGET(BASE)
static void quantise(const float *const *x, int n, int columns, int16_t *table, float *units) {
    const int stretches = (columns + 31) / 32;
    for (int j = 0; j < n; j++) {
        const float *v = x[j];
        __m512 top = _mm512_setzero_ps();
        int odd = 0;
        for (int i = 0; i < columns; i += 16) {
            __mmask16 mask = columns - i >= 16 ? 0xffff : (__mmask16)((1u << (columns - i)) - 1);
            __m512 a = _mm512_abs_ps(_mm512_maskz_loadu_ps(mask, v + i));
            odd |= _mm512_cmp_ps_mask(a, _mm512_set1_ps(INFINITY), _CMP_NLT_UQ);
            top = _mm512_max_ps(top, a);
        }
        const float most = _mm512_reduce_max_ps(top);
        /* A tiny largest value has no finite reciprocal; it is worth nothing. */
        const float scale = !odd && most > 1e-30f ? INPUT / most : 0.0f;
        const __m512 by = _mm512_set1_ps(scale);
        units[j] = odd ? NAN : most / INPUT;
        for (int s = 0; s < stretches; s++) {
            __m256i half[2];
            for (int k = 0; k < 2; k++) {
                int left = columns - 32 * s - 16 * k;
                __mmask16 mask =
                    left >= 16 ? 0xffff : left > 0 ? (__mmask16)((1u << left) - 1) : 0;
                __m512 a = _mm512_maskz_loadu_ps(mask, v + 32 * s + 16 * k);
                half[k] = _mm512_cvtsepi32_epi16(_mm512_cvtps_epi32(_mm512_mul_ps(a, by)));
            }
            int16_t *to = table + 32 * ((size_t)s * n + j);
            _mm256_store_si256((__m256i *)to, half[0]);
            _mm256_store_si256((__m256i *)(to + 16), half[1]);
        }
    }
}

static __attribute__((noinline)) void scatter(const int32_t *rows, const float *bias,
                                              const float *sums, float *y) {
    for (int i = 0; i < 16; i++)
        if (rows[i] >= 0) y[rows[i]] = bias ? sums[i] + bias[rows[i]] : sums[i];
}

/* The sums of a group leave: to 16 rows one after another, or each to its own. */
ASR_TARGET(BASE)
static inline __attribute__((always_inline)) void put(const asr_matrix *m, int g, const float *bias,
                                                      __m512 sum, float *y) {
    if (m->blocks) {
        const int32_t row = 16 * m->blocks[g], left = m->rows - row;
        const __mmask16 mask = left >= 16 ? 0xffff : (__mmask16)((1u << left) - 1);
        if (bias) sum = _mm512_add_ps(sum, _mm512_maskz_loadu_ps(mask, bias + row));
        _mm512_mask_storeu_ps(y + row, mask, sum);
        return;
    }
    float sums[16] __attribute__((aligned(64)));
    _mm512_store_ps(sums, sum);
    scatter(m->order + 16 * g, bias, sums, y);
}

#define DOT_BW(acc, w, p) _mm512_add_epi32(acc, _mm512_madd_epi16(w, p))
#define DOT_VNNI(acc, w, p) _mm512_dpwssd_epi32(acc, w, p)

#define EACH(j) _Pragma("GCC unroll 8") for (int j = 0; j < n; j++)

/* One vector against n columns, its two stretches read from the table. The index counts in
 * eighths of a stretch, so that one column needs no shift. */
#define LOOK(DOT, W, AT, SUMS)                                                                \
    {                                                                                         \
        const __m512i word = _mm512_load_si512(W);                                            \
        const int16_t *a = table + 4 * n * (size_t)((AT) & 0xffff);                           \
        const int16_t *b = table + 4 * n * (size_t)((AT) >> 16);                              \
        EACH(j)                                                                               \
        SUMS[j] = DOT(SUMS[j], word,                                                          \
                      _mm512_permutex2var_epi16(_mm512_load_si512(a + 32 * j), word,          \
                                                _mm512_load_si512(b + 32 * j)));              \
        EACH(j) IN_PLACE(SUMS[j]);                                                            \
    }

/* n is a constant where these are inlined. SINGLE: every vector has stretches of its own; few
 * columns have two chains of sums, so that a step need not wait for the one before. RUNS: `run`
 * vectors share theirs, which stay in registers (bank patterns). */
#define SINGLE(DOT)                                                                           \
    {                                                                                         \
        __m512i more[ASR_PASS];                                                               \
        EACH(j) more[j] = _mm512_setzero_si512();                                             \
        int v = 0;                                                                            \
        for (; v + 2 <= some; v += 2) {                                                       \
            const uint32_t first = at[0], second = at[1];                                     \
            LOOK(DOT, w, first, acc)                                                          \
            if (n < 4)                                                                        \
                LOOK(DOT, w + 32, second, more)                                               \
            else                                                                              \
                LOOK(DOT, w + 32, second, acc)                                                \
            w += 64;                                                                          \
            at += 2;                                                                          \
        }                                                                                     \
        if (v < some) {                                                                       \
            LOOK(DOT, w, *at, acc)                                                            \
            w += 32;                                                                          \
            at++;                                                                             \
        }                                                                                     \
        if (n < 4) EACH(j) acc[j] = _mm512_add_epi32(acc[j], more[j]);                        \
    }

#define RUNS(DOT)                                                                             \
    {                                                                                         \
        __m512i more[ASR_PASS];                                                               \
        EACH(j) more[j] = _mm512_setzero_si512();                                             \
        for (int v = 0; v < some; v += run, at++) {                                           \
            const int16_t *a = table + 4 * n * (size_t)(*at & 0xffff);                        \
            const int16_t *b = table + 4 * n * (size_t)(*at >> 16);                           \
            __m512i low[ASR_PASS], high[ASR_PASS];                                            \
            EACH(j) low[j] = _mm512_load_si512(a + 32 * j);                                   \
            EACH(j) high[j] = _mm512_load_si512(b + 32 * j);                                  \
            _Pragma("GCC unroll 3") for (int k = 0; k < run; k++, w += 32) {                  \
                const __m512i word = _mm512_load_si512(w);                                    \
                __m512i *sums = n < 4 && k == 1 ? more : acc;                                 \
                EACH(j) {                                                                     \
                    sums[j] = DOT(sums[j], word,                                              \
                                  _mm512_permutex2var_epi16(low[j], word, high[j]));          \
                    IN_PLACE(sums[j]);                                                        \
                }                                                                             \
            }                                                                                 \
        }                                                                                     \
        if (n < 4) EACH(j) acc[j] = _mm512_add_epi32(acc[j], more[j]);                        \
    }

/* Keeps the compiler from moving sums between registers in every step. */
#define IN_PLACE(x) __asm__("" : "+v"(x))

#define KERNEL(NAME, SET, DOT, INNER, RUN)                                                         \
    ASR_TARGET(SET)                                                                           \
    static inline __attribute__((always_inline)) void NAME##_columns(                         \
        const asr_matrix *m, const int n, const int16_t *table, const float *units,           \
        const float *bias, float *const *y) {                                                 \
        const int run = RUN, most = FLUSH / run * run;                                     \
        const int16_t *w = m->words;                                                          \
        const uint32_t *at = (const uint32_t *)m->index;                                      \
        for (int g = 0; g < m->groups; g++) {                                                 \
            int left = m->starts[g + 1] - m->starts[g];                                       \
            __m512 sum[ASR_PASS];                                                             \
            EACH(j) sum[j] = _mm512_setzero_ps();                                             \
            while (left > 0) {                                                                \
                const int some = left < most ? left : most;                                   \
                left -= some;                                                                 \
                __m512i acc[ASR_PASS];                                                        \
                EACH(j) acc[j] = _mm512_setzero_si512();                                      \
                INNER(DOT)                                                                    \
                EACH(j) sum[j] = _mm512_add_ps(sum[j], _mm512_cvtepi32_ps(acc[j]));           \
            }                                                                                 \
            const __m512 scale = _mm512_load_ps(m->scales + 16 * g);                          \
            EACH(j) {                                                                         \
                const __m512 worth = _mm512_mul_ps(scale, _mm512_set1_ps(units[j]));          \
                put(m, g, bias, _mm512_mul_ps(sum[j], worth), y[j]);                          \
            }                                                                                 \
        }                                                                                     \
    }                                                                                         \
    ASR_TARGET(SET)                                                                           \
    static void NAME(const asr_matrix *m, int n, const int16_t *table, const float *units,    \
                     const float *bias, float *const *y) {                                    \
        switch (n) {                                                                          \
            case 1: NAME##_columns(m, 1, table, units, bias, y); break;                       \
            case 2: NAME##_columns(m, 2, table, units, bias, y); break;                       \
            case 3: NAME##_columns(m, 3, table, units, bias, y); break;                       \
            case 4: NAME##_columns(m, 4, table, units, bias, y); break;                       \
            case 5: NAME##_columns(m, 5, table, units, bias, y); break;                       \
            case 6: NAME##_columns(m, 6, table, units, bias, y); break;                       \
            case 7: NAME##_columns(m, 7, table, units, bias, y); break;                       \
            default: NAME##_columns(m, 8, table, units, bias, y); break;                      \
        }                                                                                     \
    }

#define VNNI BASE ",avx512vnni"

KERNEL(single_bw, BASE, DOT_BW, SINGLE, 1)
KERNEL(single_vnni, VNNI, DOT_VNNI, SINGLE, 1)
KERNEL(runs_of_2_bw, BASE, DOT_BW, RUNS, 2)
KERNEL(runs_of_2_vnni, VNNI, DOT_VNNI, RUNS, 2)
KERNEL(runs_of_3_bw, BASE, DOT_BW, RUNS, 3)
KERNEL(runs_of_3_vnni, VNNI, DOT_VNNI, RUNS, 3)
KERNEL(runs_bw, BASE, DOT_BW, RUNS, m->run)
KERNEL(runs_vnni, VNNI, DOT_VNNI, RUNS, m->run)

#define CHOICE(NAME, SINGLE, TWO, THREE, ANY)                                                 \
    void NAME(const asr_matrix *m, const float *const *x, int n, const float *bias,           \
              float *const *y, void *scratch) {                                               \
        float units[ASR_PASS];                                                                \
        quantise(x, n, m->columns, scratch, units);                                           \
        (m->run == 1   ? SINGLE                                                               \
         : m->run == 2 ? TWO                                                                  \
         : m->run == 3 ? THREE                                                                \
                       : ANY)(m, n, scratch, units, bias, y);                                 \
    }

CHOICE(asr_perm16_bw, single_bw, runs_of_2_bw, runs_of_3_bw, runs_bw)
CHOICE(asr_perm16_vnni, single_vnni, runs_of_2_vnni, runs_of_3_vnni, runs_vnni)

#endif
