/* Vectors of floats of one instruction set, as macros, and the functions of gates in them.
 *
 * A file defines VECTORS as PLAIN, AVX2, AVX512 or NEON and includes this, then code in the macros,
 * then vectors_end.h; and so on for the next. LOAD and STORE take what is left of a row, LOAD_ALL
 * and STORE_ALL a whole vector. MAXIMUM and MINIMUM return their second argument if one is NaN, so
 * NaN in is NaN out.
 *
 * exp is 2^n times a polynomial of degree 6 (the coefficients of Cephes' expf); tanh(x) is
 * 1 - 2 / (1 + exp(2x)), whose absolute error is small where its relative error is not (near 0).
 */
#include <math.h>
#include <string.h>

#include "sparse.h"
#if ASR_X86
#include <immintrin.h>
#elif ASR_ARM
#include <arm_neon.h>
#endif

#define PLAIN 1
#define AVX2 2
#define AVX512 3
#define NEON 4

#if VECTORS == PLAIN
#define NAME(x) x##_plain
#define TARGET
#define VECTOR float
#define LANES 1
#define LOAD(p, left) (*(p))
#define STORE(p, v, left) (*(p) = (v))
#define LOAD_ALL(p) (*(p))
#define STORE_ALL(p, v) (*(p) = (v))
#define TOTAL(v) (v)
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

#elif VECTORS == AVX2
#define NAME(x) x##_avx2
#define TARGET ASR_TARGET("avx2,fma")
#define VECTOR __m256
#define LANES 8
static const int32_t tails[16] = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};
#define TAIL(left) _mm256_loadu_si256((const __m256i *)(tails + 8 - ((left) < 8 ? (left) : 8)))
#define LOAD(p, left) _mm256_maskload_ps(p, TAIL(left))
#define STORE(p, v, left) _mm256_maskstore_ps(p, TAIL(left), v)
#define LOAD_ALL(p) _mm256_loadu_ps(p)
#define STORE_ALL(p, v) _mm256_storeu_ps(p, v)
#define TOTAL(v) total_avx2(v)
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
TARGET static inline float total_avx2(__m256 x) {
    const __m128 half = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    const __m128 pair = _mm_add_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_add_ss(pair, _mm_movehdup_ps(pair)));
}

#elif VECTORS == AVX512
#define NAME(x) x##_avx512
#define TARGET ASR_TARGET("avx512f,avx512vl,avx512dq")
#define VECTOR __m512
#define LANES 16
#define TAIL(left) ((__mmask16)((left) < 16 ? (1u << (left)) - 1 : 0xffffu))
#define LOAD(p, left) _mm512_maskz_loadu_ps(TAIL(left), p)
#define STORE(p, v, left) _mm512_mask_storeu_ps(p, TAIL(left), v)
#define LOAD_ALL(p) _mm512_loadu_ps(p)
#define STORE_ALL(p, v) _mm512_storeu_ps(p, v)
#define TOTAL(v) _mm512_reduce_add_ps(v)
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

#elif VECTORS == NEON
#define NAME(x) x##_neon
#define TARGET
#define VECTOR float32x4_t
#define LANES 4
#define LOAD(p, left) load_neon(p, left)
#define STORE(p, v, left) store_neon(p, v, left)
#define LOAD_ALL(p) vld1q_f32(p)
#define STORE_ALL(p, v) vst1q_f32(p, v)
#define TOTAL(v) vaddvq_f32(v)
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
#endif

TARGET static inline VECTOR NAME(exponential)(VECTOR x) {
    x = MINIMUM(SET(86.0f), MAXIMUM(SET(-86.0f), x));
    /* exp(x) = 2^n exp(r), |r| <= ln(2) / 2; ln(2) in two parts keeps r exact. */
    const VECTOR n = NAME(whole)(MUL(x, SET(1.44269504f)));
    const VECTOR r = MADD(n, SET(2.12194440e-4f), MADD(n, SET(-0.693359375f), x));
    VECTOR p = SET(1.9875691500e-4f);
    p = MADD(p, r, SET(1.3981999507e-3f));
    p = MADD(p, r, SET(8.3334519073e-3f));
    p = MADD(p, r, SET(4.1665795894e-2f));
    p = MADD(p, r, SET(1.6666665459e-1f));
    p = MADD(p, r, SET(5.0000001201e-1f));
    p = ADD(MADD(p, MUL(r, r), r), SET(1.0f));
    return NAME(power)(p, n);
}

TARGET static inline VECTOR NAME(sigmoid)(VECTOR x) {
    return INVERSE(ADD(SET(1.0f), NAME(exponential)(SUB(SET(0.0f), x))));
}

TARGET static inline VECTOR NAME(tangent)(VECTOR x) {
    const VECTOR e = NAME(exponential)(ADD(x, x));
    return SUB(SET(1.0f), MUL(SET(2.0f), INVERSE(ADD(SET(1.0f), e))));
}
