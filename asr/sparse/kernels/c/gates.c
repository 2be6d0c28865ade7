/* Gates of the recurrent cells, equations of torch.nn.GRU, LSTM and RNN; within 1e-6 of them.
 *
 * exp is 2^n times a polynomial of degree 6 (the coefficients of Cephes' expf); tanh(x) is
 * 1 - 2 / (1 + exp(2x)), whose absolute error is small where its relative error is not (near 0).
 */
#include <math.h>

#include "sparse.h"

#define NAME(x) x##_plain
#define TARGET
#define VECTOR float
#define LANES 1
#define LOAD(p, left) (*(p))
#define STORE(p, v, left) (*(p) = (v))
#define SET(x) (x)
#define ADD(a, b) ((a) + (b))
#define SUB(a, b) ((a) - (b))
#define MUL(a, b) ((a) * (b))
#define MADD(a, b, c) ((a) * (b) + (c))
#define MAXIMUM(a, b) ((b) < (a) ? (a) : (b))
#define MINIMUM(a, b) ((b) > (a) ? (a) : (b))
#define INVERSE(x) (1.0f / (x))
static inline float power_plain(float x, float n) { return ldexpf(x, (int)n); }
static inline float whole_plain(float x) { return x == x ? rintf(x) : 0.0f; }
#include "gates.h"

#if ASR_X86
#include <immintrin.h>

#define NAME(x) x##_avx2
#define TARGET ASR_TARGET("avx2,fma")
#define VECTOR __m256
#define LANES 8
static const int32_t tails[16] = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};
#define TAIL(left) _mm256_loadu_si256((const __m256i *)(tails + 8 - ((left) < 8 ? (left) : 8)))
#define LOAD(p, left) _mm256_maskload_ps(p, TAIL(left))
#define STORE(p, v, left) _mm256_maskstore_ps(p, TAIL(left), v)
#define SET(x) _mm256_set1_ps(x)
#define ADD(a, b) _mm256_add_ps(a, b)
#define SUB(a, b) _mm256_sub_ps(a, b)
#define MUL(a, b) _mm256_mul_ps(a, b)
#define MADD(a, b, c) _mm256_fmadd_ps(a, b, c)
#define MAXIMUM(a, b) _mm256_max_ps(a, b)
#define MINIMUM(a, b) _mm256_min_ps(a, b)
#define INVERSE(x) _mm256_div_ps(_mm256_set1_ps(1.0f), x)
TARGET static inline __m256 power_avx2(__m256 x, __m256 n) {
    const __m256i bits = _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23);
    return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(x), bits));
}
TARGET static inline __m256 whole_avx2(__m256 x) {
    return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
#include "gates.h"

#define NAME(x) x##_avx512
#define TARGET ASR_TARGET("avx512f,avx512vl,avx512dq")
#define VECTOR __m512
#define LANES 16
#define TAIL(left) ((__mmask16)((left) < 16 ? (1u << (left)) - 1 : 0xffffu))
#define LOAD(p, left) _mm512_maskz_loadu_ps(TAIL(left), p)
#define STORE(p, v, left) _mm512_mask_storeu_ps(p, TAIL(left), v)
#define SET(x) _mm512_set1_ps(x)
#define ADD(a, b) _mm512_add_ps(a, b)
#define SUB(a, b) _mm512_sub_ps(a, b)
#define MUL(a, b) _mm512_mul_ps(a, b)
#define MADD(a, b, c) _mm512_fmadd_ps(a, b, c)
#define MAXIMUM(a, b) _mm512_max_ps(a, b)
#define MINIMUM(a, b) _mm512_min_ps(a, b)
#define INVERSE(x) inverse_avx512(x)
/* An estimate of 14 bits and one step of Newton's method: faster than a division. x is neither 0
 * nor infinite. */
TARGET static inline __m512 inverse_avx512(__m512 x) {
    const __m512 r = _mm512_rcp14_ps(x);
    return _mm512_mul_ps(r, _mm512_fnmadd_ps(x, r, _mm512_set1_ps(2.0f)));
}
TARGET static inline __m512 power_avx512(__m512 x, __m512 n) { return _mm512_scalef_ps(x, n); }
TARGET static inline __m512 whole_avx512(__m512 x) {
    return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
#include "gates.h"
#endif

#if ASR_ARM
#include <arm_neon.h>
#include <string.h>

#define NAME(x) x##_neon
#define TARGET
#define VECTOR float32x4_t
#define LANES 4
#define LOAD(p, left) load_neon(p, left)
#define STORE(p, v, left) store_neon(p, v, left)
#define SET(x) vdupq_n_f32(x)
#define ADD(a, b) vaddq_f32(a, b)
#define SUB(a, b) vsubq_f32(a, b)
#define MUL(a, b) vmulq_f32(a, b)
#define MADD(a, b, c) vfmaq_f32(c, a, b)
#define MAXIMUM(a, b) vmaxq_f32(a, b) /* NaN if one of them is */
#define MINIMUM(a, b) vminq_f32(a, b)
#define INVERSE(x) vdivq_f32(vdupq_n_f32(1.0f), x)
static inline float32x4_t load_neon(const float *p, int left) {
    if (left >= 4) return vld1q_f32(p);
    float some[4] = {0};
    memcpy(some, p, sizeof(float) * left);
    return vld1q_f32(some);
}
static inline void store_neon(float *p, float32x4_t v, int left) {
    if (left >= 4) {
        vst1q_f32(p, v);
        return;
    }
    float all[4];
    vst1q_f32(all, v);
    memcpy(p, all, sizeof(float) * left);
}
static inline float32x4_t power_neon(float32x4_t x, float32x4_t n) {
    const int32x4_t bits = vshlq_n_s32(vcvtnq_s32_f32(n), 23);
    return vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(x), bits));
}
static inline float32x4_t whole_neon(float32x4_t x) { return vrndnq_f32(x); }
#include "gates.h"
#endif

const asr_gates *asr_gates_of(int level) {
#if ASR_ARM
    if (level >= ASR_NEON) return &gates_neon;
#endif
#if ASR_X86
    if (level >= ASR_AVX512F) return &gates_avx512;
    if (level >= ASR_AVX2) return &gates_avx2;
#endif
    (void)level;
    return &gates_plain;
}
