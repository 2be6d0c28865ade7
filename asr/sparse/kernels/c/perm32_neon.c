/* perm32 for ARM: the layout of AVX2, with groups of 8 rows and two stretches of 8 columns. The 64
 * bytes of both stretches are a table of four registers; the low 4 bits of a word become the
 * positions of the four bytes of its input.
 */
#include "neon.h"

#if ASR_ARM
/* All groups, for n columns of the `ld` in the table; below 3 columns two sums each, so that a step
 * need not wait for the one before. */
ASR_INLINE void groups(const asr_matrix *m, const float *table, const size_t ld, const float *bias,
                       float *const *y, const int n) {
    const uint32_t *w = m->words;
    const uint16_t *at = m->index;
    const int chains = n < 3 ? 2 : 1;
    for (int g = 0; g < m->groups; g++) {
        int left = m->starts[g + 1] - m->starts[g];
        float32x4_t sum[2][ASR_PASS][2];
        EACH(j, n) EACH(v, 2) sum[0][j][v] = sum[1][j][v] = vdupq_n_f32(0.0f);
#define STEP(K)                                                                              \
    {                                                                                        \
        const float *a = table + ld * at[0], *b = table + ld * at[1];                        \
        uint32x4_t word[2], c[2];                                                            \
        EACH(v, 2) {                                                                         \
            word[v] = vld1q_u32(w + 4 * v);                                                  \
            c[v] = vmlaq_u32(vdupq_n_u32(0x03020100), vandq_u32(word[v], vdupq_n_u32(15)),   \
                             vdupq_n_u32(0x04040404));                                       \
        }                                                                                    \
        EACH(j, n) {                                                                         \
            const uint8_t *first = (const uint8_t *)(a + 8 * j);                             \
            const uint8_t *second = (const uint8_t *)(b + 8 * j);                            \
            const uint8x16x4_t four = {{vld1q_u8(first), vld1q_u8(first + 16),               \
                                        vld1q_u8(second), vld1q_u8(second + 16)}};           \
            EACH(v, 2) sum[K][j][v] = vfmaq_f32(                                             \
                sum[K][j][v], vreinterpretq_f32_u32(word[v]),                                \
                vreinterpretq_f32_u8(vqtbl4q_u8(four, vreinterpretq_u8_u32(c[v]))));         \
        }                                                                                    \
        w += 8;                                                                              \
        at += 2;                                                                             \
    }
        if (chains == 2)
            for (; left >= 2; left -= 2) {
                STEP(0)
                STEP(1)
            }
        for (; left > 0; left--) STEP(0)
#undef STEP
        const int row = m->blocks ? 8 * m->blocks[g] : 0;
        EACH(j, n) {
            float32x4_t all[2];
            EACH(v, 2) all[v] =
                chains == 2 ? vaddq_f32(sum[0][j][v], sum[1][j][v]) : sum[0][j][v];
            if (m->blocks && m->rows - row >= 8) {
                EACH(v, 2) store_rows(all[v], bias, row + 4 * v, 4, y[j]);
                continue;
            }
            float sums[8];
            EACH(v, 2) vst1q_f32(sums + 4 * v, all[v]);
            asr_perm32_scatter(m, g, 8, bias, sums, y[j]);
        }
    }
}

#define FUNCTION(N)                                                                          \
    ASR_INSTANCE void groups##N(const asr_matrix *m, const float *table, size_t ld,          \
                                const float *bias, float *const *y) {                        \
        groups(m, table, ld, bias, y, N);                                                    \
    }
FUNCTION(1)
FUNCTION(2)
FUNCTION(3)
FUNCTION(4)

/* In passes of 4 columns: more do not fit the registers. */
void asr_perm32_neon(const asr_matrix *m, const float *const *x, int n, const float *bias,
                     float *const *y, void *scratch) {
    static void (*const functions[4])(const asr_matrix *, const float *, size_t, const float *,
                                      float *const *) = {groups1, groups2, groups3, groups4};
    asr_perm32_copy(x, n, m->columns, 8, scratch);
    for (int done = 0; done < n; done += 4)
        functions[n - done < 4 ? n - done - 1 : 3](m, (const float *)scratch + 8 * done, n, bias,
                                                   y + done);
}
#endif
