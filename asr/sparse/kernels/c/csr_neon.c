/* csr for ARM, whose exact kernel it is: look-ups of fp32 inputs in registers (perm32) take more
 * instructions there than loads do. The layout is that of csr.c.
 *
 * With several columns the inputs are copied into a table [column of the matrix][4], or two of them
 * for 8 columns: an element then meets one vector of inputs, and no column needs an index of its own.
 */
#include "neon.h"

#if ASR_ARM
/* Four sums, so that an addition need not wait for the one before. */
static void one(const asr_matrix *m, const float *x, const float *bias, float *y) {
    const float *w = m->words;
    const uint32_t *at = (const uint32_t *)m->wide;
    for (int r = 0; r < m->rows; r++) {
        int32_t k = m->starts[r];
        const int32_t end = m->starts[r + 1];
        float sum[4] = {0};
        for (; k + 4 <= end; k += 4)
            EACH(c, 4) sum[c] += w[k + c] * x[at[k + c]];
        for (; k < end; k++) sum[0] += w[k] * x[at[k]];
        const float all = (sum[0] + sum[1]) + (sum[2] + sum[3]);
        y[r] = bias ? all + bias[r] : all;
    }
}

/* The table of n <= 4 columns of x; what is in the others is not read. */
static void interleave(const float *const *x, int n, int columns, float *table) {
    const float *from[4];
    for (int j = 0; j < 4; j++) from[j] = x[j < n ? j : 0];
    int i = 0;
    for (; i + 4 <= columns; i += 4) {
        float32x4x4_t all;
        EACH(j, 4) all.val[j] = vld1q_f32(from[j] + i);
        vst4q_f32(table + 4 * i, all);
    }
    for (; i < columns; i++) EACH(j, 4) table[4 * i + j] = from[j][i];
}

/* n columns in one or two tables that lie one after the other; two sums for each. */
ASR_INLINE void several(const asr_matrix *m, const float *table, int n, const float *bias,
                        float *const *y, const int tables) {
    const float *w = m->words;
    const uint32_t *at = (const uint32_t *)m->wide;
    const float *const second = table + 4 * (size_t)m->columns;
    for (int r = 0; r < m->rows; r++) {
        int32_t k = m->starts[r];
        const int32_t end = m->starts[r + 1];
        float32x4_t sum[2][2];
        EACH(c, 2) EACH(t, tables) sum[c][t] = vdupq_n_f32(0.0f);
#define STEP(C, K)                                                                           \
    EACH(t, tables) sum[C][t] =                                                              \
        vfmaq_n_f32(sum[C][t], vld1q_f32((t ? second : table) + 4 * (size_t)at[K]), w[K]);
        for (; k + 2 <= end; k += 2) {
            STEP(0, k)
            STEP(1, k + 1)
        }
        if (k < end) STEP(0, k)
#undef STEP
        float sums[8];
        EACH(t, tables) vst1q_f32(sums + 4 * t, vaddq_f32(sum[0][t], sum[1][t]));
        for (int j = 0; j < n; j++) y[j][r] = bias ? sums[j] + bias[r] : sums[j];
    }
}

void asr_csr_neon(const asr_matrix *m, const float *const *x, int n, const float *bias,
                  float *const *y, void *scratch) {
    float *table = scratch;
    if (n == 1) {
        one(m, x[0], bias, y[0]);
        return;
    }
    interleave(x, n < 4 ? n : 4, m->columns, table);
    if (n <= 4) {
        several(m, table, n, bias, y, 1);
        return;
    }
    interleave(x + 4, n - 4, m->columns, table + 4 * (size_t)m->columns);
    several(m, table, n, bias, y, 2);
}
#endif
