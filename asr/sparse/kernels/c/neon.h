/* What the kernels for ARM share. */
#ifndef ASR_NEON_H
#define ASR_NEON_H

#include "sparse.h"

#if ASR_ARM
#include <arm_neon.h>
#include <math.h>
#include <string.h>

#define EACH(i, n) _Pragma("GCC unroll 8") for (int i = 0; i < (n); i++)

/* One function for each number of columns: in one for all of them GCC leaves sums in memory. */
#define ASR_INSTANCE static __attribute__((noinline))

/* 16 numbers of x, rounded to signed bytes. */
static inline int8x16_t bytes(const float *x, float32x4_t by) {
    int32x4_t part[4];
    EACH(i, 4) part[i] = vcvtnq_s32_f32(vmulq_f32(vld1q_f32(x + 4 * i), by));
    const int16x8_t low = vqmovn_high_s32(vqmovn_s32(part[0]), part[1]);
    const int16x8_t high = vqmovn_high_s32(vqmovn_s32(part[2]), part[3]);
    return vqmovn_high_s16(vqmovn_s16(low), high);
}

/* Rounds x to signed bytes of at most 127, in vectors of 16 that lie `step` bytes apart, with zeros
 * behind the last. Returns the value of 1 in them. */
static inline float quantise(const float *x, int columns, int8_t *to, size_t step) {
    const int whole = columns / 16 * 16;
    float rest[16] = {0};
    float32x4_t top[4];
    memcpy(rest, x + whole, sizeof(float) * (columns - whole));
    EACH(i, 4) top[i] = vabsq_f32(vld1q_f32(rest + 4 * i));
    for (int k = 0; k < whole; k += 16) /* a NaN stays */
        EACH(i, 4) top[i] = vmaxq_f32(top[i], vabsq_f32(vld1q_f32(x + k + 4 * i)));
    const float most =
        vmaxvq_f32(vmaxq_f32(vmaxq_f32(top[0], top[1]), vmaxq_f32(top[2], top[3])));
    const asr_rounding r = asr_rounding_to(127.0f, most, most < INFINITY);
    const float32x4_t by = vdupq_n_f32(r.scale);
    for (int k = 0; k < whole; k += 16, to += step) vst1q_s8(to, bytes(x + k, by));
    if (columns > whole) vst1q_s8(to, bytes(rest, by));
    return r.unit;
}

/* Writes the values of 4 rows from `row` on, of which only `left` may be there. */
static inline void store_rows(float32x4_t values, const float *bias, int row, int left, float *y) {
    if (left >= 4) {
        vst1q_f32(y + row, bias ? vaddq_f32(values, vld1q_f32(bias + row)) : values);
        return;
    }
    float sums[4];
    vst1q_f32(sums, values);
    for (int i = 0; i < left; i++) y[row + i] = bias ? sums[i] + bias[row + i] : sums[i];
}

/* Four products of bytes in each of 4 rows, without the instruction for it: pairs of products fit
 * 16 bits, because no byte is -128. */
static inline int32x4_t dot_plain(int32x4_t sums, int8x16_t w, int8x16_t p) {
    const int16x8_t low = vmull_s8(vget_low_s8(w), vget_low_s8(p));
    return vpadalq_s16(sums, vpaddq_s16(low, vmull_high_s8(w, p)));
}
#endif
#endif
