/* block16 for ARM; the layouts are those of block.c, but that int8 weights go in fours:
 *
 *   words    a b . .  e f . .  c . . .  d h . .    [four blocks][row][4]
 *
 * because the instruction multiplies and adds four pairs of bytes. Their input is rounded to signed
 * bytes; sums of 2^16 columns stay below 2^31. A group is 4 vectors of 4 rows: the sums of 4
 * columns fit the 32 registers beside a vector of weights.
 */
#include "neon.h"

#if ASR_ARM
/* The weights of a block as 4 vectors. */
static inline void weights_fp32(const void *words, size_t block, float32x4_t *w) {
    EACH(v, 4) w[v] = vld1q_f32((const float *)words + 16 * block + 4 * v);
}

static inline void weights_fp16(const void *words, size_t block, float32x4_t *w) {
    const uint16_t *from = (const uint16_t *)words + 16 * block;
    EACH(k, 2) {
        const float16x8_t half = vreinterpretq_f16_u16(vld1q_u16(from + 8 * k));
        w[2 * k] = vcvt_f32_f16(vget_low_f16(half));
        w[2 * k + 1] = vcvt_high_f32_f16(half);
    }
}

typedef void floats_fn(const asr_matrix *m, const float *const *x, const float *bias,
                       float *const *y);

#define FLOATS_OF(NAME, N)                                                                   \
    ASR_INSTANCE void NAME##_##N(const asr_matrix *m, const float *const *x,                 \
                                 const float *bias, float *const *y) {                       \
        NAME##_groups(m, x, bias, y, N);                                                     \
    }

/* 4 sums for each row of 1 column, 2 of 2: a step need not wait for the one before. */
#define FLOATS(NAME, WEIGHTS)                                                                \
    ASR_INLINE void NAME##_groups(const asr_matrix *m, const float *const *x,                \
                                  const float *bias, float *const *y, const int n) {         \
        const int chains = n < 2 ? 4 : n < 3 ? 2 : 1;                                        \
        for (int g = 0; g < m->groups; g++) {                                                \
            int32_t k = m->starts[g];                                                        \
            const int32_t end = m->starts[g + 1];                                            \
            float32x4_t sum[4][4][4], w[4];                                                  \
            EACH(c, chains) EACH(j, n) EACH(v, 4) sum[c][j][v] = vdupq_n_f32(0.0f);          \
            for (; k + chains <= end; k += chains)                                           \
                EACH(c, chains) {                                                            \
                    WEIGHTS(m->words, k + c, w);                                             \
                    const size_t at = m->index[k + c];                                       \
                    EACH(j, n) EACH(v, 4) sum[c][j][v] =                                     \
                        vfmaq_n_f32(sum[c][j][v], w[v], x[j][at]);                           \
                }                                                                            \
            for (; k < end; k++) {                                                           \
                WEIGHTS(m->words, k, w);                                                     \
                EACH(j, n) EACH(v, 4) sum[0][j][v] =                                         \
                    vfmaq_n_f32(sum[0][j][v], w[v], x[j][m->index[k]]);                      \
            }                                                                                \
            EACH(j, n) EACH(v, 4) {                                                          \
                for (int c = 1; c < chains; c++)                                             \
                    sum[0][j][v] = vaddq_f32(sum[0][j][v], sum[c][j][v]);                    \
                const int row = 16 * g + 4 * v;                                              \
                store_rows(sum[0][j][v], bias, row, m->rows - row, y[j]);                    \
            }                                                                                \
        }                                                                                    \
    }                                                                                        \
    FLOATS_OF(NAME, 1)                                                                       \
    FLOATS_OF(NAME, 2)                                                                       \
    FLOATS_OF(NAME, 3)                                                                       \
    FLOATS_OF(NAME, 4)                                                                       \
    void NAME(const asr_matrix *m, const float *const *x, int n, const float *bias,          \
              float *const *y, void *scratch) {                                              \
        static floats_fn *const functions[4] = {NAME##_1, NAME##_2, NAME##_3, NAME##_4};     \
        (void)scratch;                                                                       \
        for (int done = 0; done < n; done += 4)                                              \
            functions[n - done < 4 ? n - done - 1 : 3](m, x + done, bias, y + done);         \
    }

FLOATS(asr_block_fp32_neon, weights_fp32)
FLOATS(asr_block_fp16_neon, weights_fp16)

/* A table [column][4] of up to 4 columns of x, rounded to bytes, and their units. The rounded rows
 * lie behind the table in `scratch`. */
static const int8_t *interleave(const float *const *x, int n, int columns, void *scratch,
                                float *units) {
    const size_t padded = ((size_t)columns + 15) / 16 * 16;
    int8_t *table = scratch, *row[4];
    for (int j = 0; j < 4; j++) {
        row[j] = table + (4 + j) * padded;
        if (j < n) units[j] = quantise(x[j], columns, row[j], 16);
        else memset(row[j], 0, padded);
    }
    for (size_t i = 0; i < padded; i += 16) {
        int8x16x4_t all;
        EACH(j, 4) all.val[j] = vld1q_s8(row[j] + i);
        vst4q_s8(table + 4 * i, all);
    }
    return table;
}

/* The inputs of four blocks: bytes 4j to 4j + 3 are those of column j. */
static inline int8x16_t inputs(const int8_t *table, const uint16_t *at) {
    int8x8_t part[4];
    EACH(k, 4) {
        int32_t four;
        memcpy(&four, table + 4 * (size_t)at[k], 4);
        part[k] = vreinterpret_s8_s32(vdup_n_s32(four));
    }
    const int16x4_t low = vreinterpret_s16_s8(vzip1_s8(part[0], part[1]));
    const int16x4_t high = vreinterpret_s16_s8(vzip1_s8(part[2], part[3]));
    return vreinterpretq_s8_s16(vcombine_s16(vzip1_s16(low, high), vzip2_s16(low, high)));
}

typedef void bytes_fn(const asr_matrix *m, const int8_t *table, const float *units,
                      const float *bias, float *const *y);

#define BYTES_OF(NAME, TARGET, N)                                                            \
    TARGET ASR_INSTANCE void NAME##_##N(const asr_matrix *m, const int8_t *table,            \
                                        const float *units, const float *bias,               \
                                        float *const *y) {                                   \
        NAME##_groups(m, table, units, bias, y, N);                                          \
    }

#define BYTES(NAME, TARGET, DOT)                                                             \
    TARGET ASR_INLINE void NAME##_groups(const asr_matrix *m, const int8_t *table,           \
                                         const float *units, const float *bias,              \
                                         float *const *y, const int n) {                     \
        for (int g = 0; g < m->groups; g++) {                                                \
            int32x4_t sum[4][4];                                                             \
            EACH(j, n) EACH(v, 4) sum[j][v] = vdupq_n_s32(0);                                \
            for (int32_t k = m->starts[g]; k < m->starts[g + 1]; k += 4) {                   \
                const int8_t *from = (const int8_t *)m->words + 16 * (size_t)k;              \
                const int32x4_t in = vreinterpretq_s32_s8(inputs(table, m->index + k));      \
                int8x16_t w[4];                                                              \
                EACH(v, 4) w[v] = vld1q_s8(from + 16 * v);                                   \
                EACH(j, n) {                                                                 \
                    const int8x16_t p = vreinterpretq_s8_s32(vdupq_n_s32(in[j]));        \
                    EACH(v, 4) sum[j][v] = DOT(sum[j][v], w[v], p);                          \
                }                                                                            \
            }                                                                                \
            EACH(j, n) EACH(v, 4) {                                                          \
                const int row = 16 * g + 4 * v;                                              \
                const float32x4_t scale = vmulq_n_f32(vld1q_f32(m->scales + row), units[j]); \
                store_rows(vmulq_f32(vcvtq_f32_s32(sum[j][v]), scale), bias, row,            \
                           m->rows - row, y[j]);                                             \
            }                                                                                \
        }                                                                                    \
    }                                                                                        \
    BYTES_OF(NAME, TARGET, 1)                                                                \
    BYTES_OF(NAME, TARGET, 2)                                                                \
    BYTES_OF(NAME, TARGET, 3)                                                                \
    BYTES_OF(NAME, TARGET, 4)                                                                \
    void NAME(const asr_matrix *m, const float *const *x, int n, const float *bias,          \
              float *const *y, void *scratch) {                                              \
        static bytes_fn *const functions[4] = {NAME##_1, NAME##_2, NAME##_3, NAME##_4};      \
        for (int done = 0; done < n; done += 4) {                                            \
            const int some = n - done < 4 ? n - done : 4;                                    \
            float units[4];                                                                  \
            const int8_t *table = interleave(x + done, some, m->columns, scratch, units);    \
            functions[some - 1](m, table, units, bias, y + done);                            \
        }                                                                                    \
    }

BYTES(asr_block_int8_neon, , dot_plain)
#if ASR_HAS_DOT
BYTES(asr_block_int8_dot, ASR_DOT_TARGET, vdotq_s32)
#else
void asr_block_int8_dot(const asr_matrix *m, const float *const *x, int n, const float *bias,
                        float *const *y, void *scratch) {
    asr_block_int8_neon(m, x, n, bias, y, scratch);
}
#endif
#endif
