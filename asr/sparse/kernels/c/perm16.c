/* perm16: 16-bit words, each of them a weight and its column at once.
 *
 *   one vector:  32 words, two for each of the 16 rows of a group
 *
 *       | w w | w w | w w | ... | w w |        words 2i and 2i + 1 belong to row i
 *       row 0  row 1  row 2     row 15
 *
 *   one word:    16 bits, the weight times the scale of its row
 *
 *       | q q q q q q q q q q | c c c c c c |   c: which of 64 columns
 *
 *   index:       two stretches of 32 columns for each vector (layout.c chooses them)
 *
 * The 64 columns of the input lie in two registers. The low 6 bits of the words are the index of
 * one permutation of these registers, which fetches the input of every word. Then the whole words,
 * read as integers, are multiplied with them: that c is a part of the number changes a weight by at
 * most 32 units, and layout.c rounds the words accordingly. One load, one permutation and one
 * multiply-add thus do 32 elements, wherever their zeros are, without a gather.
 *
 * The input is rounded to integers of at most INPUT. Sums are converted to floats after FLUSH
 * vectors, before they can overflow.
 *
 * Blocking: one pass over the words serves up to 8 columns of the input, whose table is read from
 * the first-level cache. `run` vectors read the same pair of stretches, so that the two registers
 * are loaded once for all of them: in a bank pattern all rows need them, and elsewhere a fifth more
 * vectors cost less than the loads (LOG.md).
 */
#include "sparse.h"

#if ASR_X86
#include <immintrin.h>

#define INPUT 4096.0f /* the bound on sums in layout.c assumes it */
#define FLUSH 16

#define BASE "avx512f,avx512vl,avx512dq,avx512bw"

/* Columns of x as a table [stretch][column j][32] of int16; units[j] is the value of 1 in it. */
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
        const asr_rounding r = asr_rounding_to(INPUT, _mm512_reduce_max_ps(top), !odd);
        const __m512 by = _mm512_set1_ps(r.scale);
        units[j] = r.unit;
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

#define EACH(j) _Pragma("GCC unroll 8") for (int j = 0; j < n; j++)

/* Not inlined: it would take the registers of the sums. */
static __attribute__((noinline)) void scatter(const int32_t *rows, const float *bias,
                                              const float *sums, float *y) {
    for (int i = 0; i < 16; i++)
        if (rows[i] >= 0) y[rows[i]] = bias ? sums[i] + bias[rows[i]] : sums[i];
}

/* Scales the sums of a group, adds the bias and writes them: to 16 consecutive rows, or each to its
 * own row. */
ASR_TARGET(BASE)
ASR_INLINE void store_group(const asr_matrix *m, int g, const int n, const __m512 *sum,
                            const float *units, const float *bias, float *const *y) {
    const __m512 scale = _mm512_load_ps(m->scales + 16 * g);
    if (m->blocks) {
        const int32_t row = 16 * m->blocks[g], left = m->rows - row;
        const __mmask16 mask = left >= 16 ? 0xffff : (__mmask16)((1u << left) - 1);
        const __m512 more = bias ? _mm512_maskz_loadu_ps(mask, bias + row) : _mm512_setzero_ps();
        EACH(j) {
            const __m512 unit = _mm512_mul_ps(scale, _mm512_set1_ps(units[j]));
            _mm512_mask_storeu_ps(y[j] + row, mask, _mm512_fmadd_ps(sum[j], unit, more));
        }
        return;
    }
    EACH(j) {
        float sums[16] __attribute__((aligned(64)));
        const __m512 unit = _mm512_mul_ps(scale, _mm512_set1_ps(units[j]));
        _mm512_store_ps(sums, _mm512_mul_ps(sum[j], unit));
        scatter(m->order + 16 * g, bias, sums, y[j]);
    }
}

#define DOT_BW(acc, w, p) _mm512_add_epi32(acc, _mm512_madd_epi16(w, p))
#define DOT_VNNI(acc, w, p) _mm512_dpwssd_epi32(acc, w, p)

/* Stops the compiler from moving sums between registers in every step, and from loading a word
 * twice because the permutation overwrites one of its operands: loads are what limits this loop. */
#define IN_PLACE(x) __asm__("" : "+v"(x))

/* One vector times n columns; the two low bytes of PAIR are its stretches. */
#define LOOK(DOT, W, PAIR, SUMS)                                                              \
    {                                                                                         \
        __m512i word = _mm512_load_si512(W);                                                  \
        IN_PLACE(word);                                                                       \
        const int16_t *a = table + 32 * n * (size_t)((PAIR) & 0xff);                          \
        const int16_t *b = table + 32 * n * (size_t)((PAIR) >> 8 & 0xff);                     \
        EACH(j) {                                                                             \
            SUMS[j] = DOT(SUMS[j], word,                                                      \
                          _mm512_permutex2var_epi16(_mm512_load_si512(a + 32 * j), word,      \
                                                    _mm512_load_si512(b + 32 * j)));          \
            IN_PLACE(SUMS[j]);                                                                \
        }                                                                                     \
    }

/* Here n is a constant, for everything is inlined. SINGLE: every vector has stretches of its own;
 * one load of 64 bits brings those of four vectors, because loads are what limits this loop. RUNS:
 * `run` vectors share their stretches, which stay in registers. With few columns there are several
 * chains of sums, so that a step need not wait for the one before. */
#define CHAINS (n == 1 ? 4 : n < 4 ? 2 : 1)

#define SINGLE(DOT)                                                                           \
    {                                                                                         \
        int v = 0;                                                                            \
        for (; v + 4 <= some; v += 4) {                                                       \
            const uint64_t pairs = *four++;                                                   \
            LOOK(DOT, w, pairs, acc[0])                                                       \
            LOOK(DOT, w + 32, pairs >> 16, acc[1 % CHAINS])                                   \
            LOOK(DOT, w + 64, pairs >> 32, acc[2 % CHAINS])                                   \
            LOOK(DOT, w + 96, pairs >> 48, acc[3 % CHAINS])                                   \
            w += 128;                                                                         \
        }                                                                                     \
        if (v < some) {                                                                       \
            uint64_t pairs = *four++;                                                         \
            for (; v < some; v++, pairs >>= 16, w += 32) LOOK(DOT, w, pairs, acc[0])          \
        }                                                                                     \
    }

#define RUN_OF(DOT, FIRST)                                                                    \
    {                                                                                         \
        const uint32_t pair = *at++;                                                          \
        const int16_t *a = table + 32 * n * (size_t)(pair & 0xff);                            \
        const int16_t *b = table + 32 * n * (size_t)(pair >> 8);                              \
        __m512i low[ASR_PASS], high[ASR_PASS];                                                \
        EACH(j) low[j] = _mm512_load_si512(a + 32 * j);                                       \
        EACH(j) high[j] = _mm512_load_si512(b + 32 * j);                                      \
        _Pragma("GCC unroll 4") for (int k = 0; k < run; k++, w += 32) {                      \
            __m512i word = _mm512_load_si512(w);                                              \
            IN_PLACE(word);                                                                   \
            EACH(j) {                                                                         \
                __m512i *to = &acc[((FIRST) + k) % CHAINS][j];                                \
                *to = DOT(*to, word, _mm512_permutex2var_epi16(low[j], word, high[j]));       \
                IN_PLACE(*to);                                                                \
            }                                                                                 \
        }                                                                                     \
    }

#define RUNS(DOT)                                                                             \
    {                                                                                         \
        int v = 0;                                                                            \
        for (; v + 2 * run <= some; v += 2 * run) {                                           \
            RUN_OF(DOT, 0)                                                                    \
            RUN_OF(DOT, run)                                                                  \
        }                                                                                     \
        for (; v < some; v += run) RUN_OF(DOT, 0)                                             \
    }

#define KERNEL(NAME, SET, DOT, INNER, RUN)                                                    \
    ASR_TARGET(SET)                                                                           \
    ASR_INLINE void NAME##_columns(                                                           \
        const asr_matrix *m, const int n, const int16_t *table, const float *units,           \
        const float *bias, float *const *y) {                                                 \
        const int run = RUN, most = FLUSH / run * run;                                        \
        const int16_t *w = m->words;                                                          \
        const uint16_t *at = m->index;                                                        \
        const uint64_t *four = (const uint64_t *)m->index;                                    \
        (void)at, (void)four;                                                                 \
        for (int g = 0; g < m->groups; g++) {                                                 \
            int left = m->starts[g + 1] - m->starts[g];                                       \
            __m512 sum[ASR_PASS];                                                             \
            EACH(j) sum[j] = _mm512_setzero_ps();                                             \
            while (left > 0) {                                                                \
                const int some = left < most ? left : most;                                   \
                left -= some;                                                                 \
                __m512i acc[4][ASR_PASS];                                                     \
                for (int c = 0; c < CHAINS; c++)                                              \
                    EACH(j) acc[c][j] = _mm512_setzero_si512();                               \
                INNER(DOT)                                                                    \
                for (int c = 1; c < CHAINS; c++)                                              \
                    EACH(j) acc[0][j] = _mm512_add_epi32(acc[0][j], acc[c][j]);               \
                EACH(j) sum[j] = _mm512_add_ps(sum[j], _mm512_cvtepi32_ps(acc[0][j]));        \
            }                                                                                 \
            store_group(m, g, n, sum, units, bias, y);                                        \
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
KERNEL(runs_of_4_bw, BASE, DOT_BW, RUNS, 4)
KERNEL(runs_of_4_vnni, VNNI, DOT_VNNI, RUNS, 4)

#define CHOICE(NAME, ONE, TWO, THREE, FOUR)                                                   \
    void NAME(const asr_matrix *m, const float *const *x, int n, const float *bias,           \
              float *const *y, void *scratch) {                                               \
        float units[ASR_PASS];                                                                \
        quantise(x, n, m->columns, scratch, units);                                           \
        (m->run == 1   ? ONE                                                                  \
         : m->run == 2 ? TWO                                                                  \
         : m->run == 3 ? THREE                                                                \
                       : FOUR)(m, n, scratch, units, bias, y);                                \
    }

/* With one column the loop waits for its sums, and an addition alone is ready sooner than a dot
 * product: 13 to 20 % of the time of a GRU layer on Zen 4. */
static void single_either(const asr_matrix *m, int n, const int16_t *table, const float *units,
                          const float *bias, float *const *y) {
    (n == 1 ? single_bw : single_vnni)(m, n, table, units, bias, y);
}

CHOICE(asr_perm16_bw, single_bw, runs_of_2_bw, runs_of_3_bw, runs_of_4_bw)
CHOICE(asr_perm16_vnni, single_either, runs_of_2_vnni, runs_of_3_vnni, runs_of_4_vnni)

#endif
