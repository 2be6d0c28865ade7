/* perm8: 8-bit weights and, beside them, the columns of 8 bits that they meet.
 *
 *   one vector:   | w w w w | w w w w | ... | w w w w |      32 bytes, 4 for each of 8 rows
 *                 | c c c c | c c c c | ... | c c c c |      32 bytes
 *                   row 0     row 1           row 7
 *
 *   one c:        the column within a stretch of 16; with the top bit set, within the second one
 *   index:        for each vector two stretches of 16 columns, as 16 times their numbers
 *
 * The input is rounded to signed bytes, at most INPUT. 16 of them lie in a register: a byte shuffle
 * fetches the inputs of a whole vector from one stretch, and gives 0 where the top bit of c is set.
 * So the inputs of both stretches are
 *
 *     shuffle(first, c) | shuffle(second, c ^ 0x80)
 *
 * and instructions that multiply bytes and add the four products of a row do the rest. The sums
 * are exact integers, so that every instruction set gives the same bits. An empty slot has w = 0.
 *
 * Two variants, for bank patterns (layouts.py chooses them):
 *   lanes 32      a group is 4 times 8 rows: 4 vectors that lie one after the other read the same
 *                 two stretches, which are loaded once for all of them
 *   pairs 2       the first two bytes of every row read one pair of stretches, the other two a
 *                 second pair: `index` has four numbers for each vector
 */
#include "sparse.h"

#define INPUT 127.0f

/* Columns of x as a table [stretch][column j][16] of bytes; units[j] is the value of 1 in it. */
static void quantise(const float *const *x, int n, int columns, int8_t *table, float *units) {
    const int stretches = (columns + 15) / 16;
    for (int j = 0; j < n; j++) {
        const asr_rounding r = asr_rounding_of(INPUT, x[j], columns);
        units[j] = r.unit;
        for (int s = 0; s < stretches; s++) {
            int8_t *to = table + 16 * ((size_t)s * n + j);
            for (int i = 0; i < 16; i++) {
                const int there = 16 * s + i < columns && r.scale > 0;
                to[i] = there ? (int8_t)rintf(x[j][16 * s + i] * r.scale) : 0;
            }
        }
    }
}

#if ASR_X86
__attribute__((noinline)) /* it would take the registers of the sums */
#endif
/* Writes the values of `count` lanes of a group from `first` on. */
static void scatter(const asr_matrix *m, int g, int first, int count, const float *bias,
                    const float *values, float *y) {
    for (int i = first; i < first + count; i++) {
        const int32_t row = m->blocks ? m->lanes * m->blocks[g] + i : m->order[m->lanes * g + i];
        if (row < 0 || row >= m->rows) continue;
        y[row] = bias ? values[i - first] + bias[row] : values[i - first];
    }
}

void asr_perm8_plain(const asr_matrix *m, const float *const *x, int n, const float *bias,
                     float *const *y, void *scratch) {
    float units[ASR_PASS];
    const int8_t *table = scratch, *w = m->words;
    const uint16_t *at = m->index;
    quantise(x, n, m->columns, scratch, units);
    for (int g = 0; g < m->groups; g++) {
        int32_t sums[ASR_PASS][32] = {{0}};
        for (int v = m->starts[g]; v < m->starts[g + 1]; v++, at += 2 * m->pairs)
            for (int first = 0; first < m->lanes; first += 8, w += 64)
                for (int b = 0; b < 32; b++) {
                    const uint8_t c = (uint8_t)w[32 + b];
                    const uint16_t *pair = at + (m->pairs == 2 ? b & 2 : 0);
                    const int8_t *in = table + (size_t)n * pair[c >> 7] + (c & 15);
                    for (int j = 0; j < n; j++) sums[j][first + b / 4] += w[b] * in[16 * j];
                }
        for (int j = 0; j < n; j++) {
            float values[32];
            for (int i = 0; i < m->lanes; i++)
                values[i] = (float)sums[j][i] * (m->scales[m->lanes * g + i] * units[j]);
            scatter(m, g, 0, m->lanes, bias, values, y[j]);
        }
    }
}

#if ASR_X86
#include <immintrin.h>
#include <string.h>

#define BASE "avx2,fma"

/* 16 floats times `by`, as bytes with `flip` changed. */
ASR_TARGET(BASE)
ASR_INLINE __m128i bytes(const float *v, __m256 by, __m128i flip) {
    const __m256i a = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(v), by));
    const __m256i b = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(v + 8), by));
    const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0xd8);
    return _mm_xor_si128(flip, _mm_packs_epi16(_mm256_castsi256_si128(words),
                                               _mm256_extracti128_si256(words, 1)));
}

/* As `quantise`; `offset` is 0, or 128 for bytes without a sign. */
ASR_TARGET(BASE)
static void quantise256(const float *const *x, int n, int columns, int offset, int8_t *table,
                        float *units) {
    const __m256 sign = _mm256_set1_ps(-0.0f), limit = _mm256_set1_ps(INFINITY);
    const __m128i flip = _mm_set1_epi8((char)offset);
    const int whole = columns / 16 * 16;
    for (int j = 0; j < n; j++) {
        float rest[16] = {0}, tops[8];
        memcpy(rest, x[j] + whole, sizeof(float) * (columns - whole));
        __m256 top = _mm256_setzero_ps(), odd = _mm256_setzero_ps();
        for (int i = 0; i <= whole; i += 8) {
            for (int k = 0; k < (i == whole ? 2 : 1); k++) {
                const float *v = i == whole ? rest + 8 * k : x[j] + i;
                const __m256 size = _mm256_andnot_ps(sign, _mm256_loadu_ps(v));
                odd = _mm256_or_ps(odd, _mm256_cmp_ps(size, limit, _CMP_NLT_UQ));
                top = _mm256_max_ps(top, size);
            }
        }
        _mm256_storeu_ps(tops, top);
        float most = 0.0f;
        for (int i = 0; i < 8; i++) most = tops[i] > most ? tops[i] : most;
        const asr_rounding r = asr_rounding_to(INPUT, most, !_mm256_movemask_ps(odd));
        const __m256 by = _mm256_set1_ps(r.scale);
        units[j] = r.unit;
        int8_t *to = table + 16 * j;
        for (int i = 0; i < whole; i += 16, to += 16 * n)
            _mm_store_si128((__m128i *)to, bytes(x[j] + i, by, flip));
        if (columns > whole) _mm_store_si128((__m128i *)to, bytes(rest, by, flip));
    }
}

/* |w| as bytes without a sign, and the inputs with the sign of w: at most 2 * 127 * 127 < 2^15. */
#define NAME(x) x##_avx2
#define TARGET ASR_TARGET(BASE)
#define OFFSET 0
#define DOT(acc, w, p)                                                                      \
    _mm256_add_epi32(acc, _mm256_madd_epi16(_mm256_maddubs_epi16(_mm256_abs_epi8(w),        \
                                                                 _mm256_sign_epi8(p, w)),   \
                                            _mm256_set1_epi16(1)))
#include "perm8.h"

/* The input without a sign, 128 larger; `sums` of the matrix takes that off again. */
#if ASR_AVXVNNI
#define NAME(x) x##_avxvnni
#define TARGET ASR_TARGET(BASE ",avxvnni")
#define OFFSET 128
#define DOT(acc, w, p) _mm256_dpbusd_avx_epi32(acc, p, w)
#include "perm8.h"
#endif

/* The same instruction as AVX-512 VL encodes it. In assembly, so that the compiler uses nothing
 * else of AVX-512, above all not its 16 further registers: so this is as fast as AVX2 with
 * AVX-VNNI where the processor has only this encoding. */
ASR_TARGET(BASE)
ASR_INLINE __m256i dot_evex(__m256i acc, __m256i w, __m256i p) {
    __asm__("vpdpbusd %2, %1, %0" : "+x"(acc) : "x"(p), "xm"(w));
    return acc;
}
#define NAME(x) x##_evexvnni
#define TARGET ASR_TARGET(BASE)
#define OFFSET 128
#define DOT(acc, w, p) dot_evex(acc, w, p)
#include "perm8.h"

#endif
