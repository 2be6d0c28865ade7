/* perm8 for ARM, whose vectors are half as long: 4 rows of 4 bytes. The layout is that of perm8.c,
 * with one difference: c is the position among the 32 bytes of both stretches, or the 64 of two
 * pairs of stretches (layouts.py). One table look-up in two or four registers fetches them all.
 */
#include "neon.h"

#if ASR_ARM
/* Writes 4 lanes of a group from `lane` on. */
static inline void store_lanes(const asr_matrix *m, int g, int lane, float unit, const float *bias,
                               int32x4_t sums, float *y) {
    const size_t at = (size_t)m->lanes * g + lane;
    const float32x4_t scale = vmulq_n_f32(vld1q_f32(m->scales + at), unit);
    const float32x4_t values = vmulq_f32(vcvtq_f32_s32(sums), scale);
    if (m->blocks) {
        const int row = m->lanes * m->blocks[g] + lane;
        store_rows(values, bias, row, m->rows - row, y);
        return;
    }
    for (int i = 0; i < 4; i++) {
        const int32_t row = m->order[at + i];
        if (row >= 0) store_rows(vdupq_n_f32(values[i]), bias, row, 1, y);
    }
}

/* All groups of a matrix times some of the `ld` columns of a table. */
typedef void groups_fn(const asr_matrix *m, const int8_t *table, size_t ld, const float *units,
                       const float *bias, float *const *y);

#define NAME(x) x##_neon
#define TARGET
#define DOT(acc, w, p) dot_plain(acc, w, p)
#include "perm8_neon.h"

#if ASR_HAS_DOT
#define NAME(x) x##_dot
#define TARGET ASR_DOT_TARGET
#define DOT(acc, w, p) vdotq_s32(acc, w, p)
#include "perm8_neon.h"
#else
void asr_perm8_dot(const asr_matrix *m, const float *const *x, int n, const float *bias,
                   float *const *y, void *scratch) {
    asr_perm8_neon(m, x, n, bias, y, scratch);
}
#endif
#endif
