/* One direction of a GRU or RNN with gradients, whose weights are sparse and keep their zeros.
 *
 * Numbers of all utterances of a batch lie side by side: `width` columns, 8 or a multiple of 16, of
 * which those beyond the last utterance are zero in x and in the gradient. AVX-512 would fill half
 * of its vectors with 8 columns, so AVX2 does them.
 *
 *   x       (frames, inputs, width)
 *   states  (frames + 1, hidden, width)         states[0] is zero
 *   saved   (frames, parts * hidden, width)     GRU, 4 parts: r, z, n, k_n   RNN, 1: nothing
 *           backward puts the gradients of the gates there:
 *                                               GRU: d_r, d_z, d_n, d_n r    RNN: d
 *
 * with the equations of `_Gru` in asr/model/torch_recurrence.py. The input sees d_r, d_z and d_n,
 * the state d_r, d_z and d_n r: `hh_t` has the columns of its third gate one part further.
 *
 * Matrices are rows of (column, value), once as they are and once transposed; so every product is
 * a gather, and every weight has one sum. fp32 throughout.
 */
#include <stdlib.h>

#define GRU 0
#define RNN_RELU 3
/* The gradients of the weights add up frames until a row has SPAN floats: few enough for the inputs
 * of that many frames to stay in the second-level cache. No width is larger than WIDEST. */
#define SPAN 256
#define WIDEST 1024

#include "sparse.h"

/* A matrix: row i has the elements from starts[i] to starts[i + 1]. */
typedef struct {
    const int32_t *starts, *index;
    const float *values;
} asr_rows;

/* Must equal `_Direction` in asr/sparse/torch_training.py. */
typedef struct {
    int32_t kind, level, inputs, hidden, gates, parts, width;
    int64_t frames;
    asr_rows ih, hh, ih_t, hh_t;
    const float *bias_ih, *bias_hh;
    float *grad_ih, *grad_hh, *grad_bias_ih, *grad_bias_hh; /* added to */
} asr_training;

/* Floats of a row that the gradients of the weights take at a time. */
ASR_EXPORT int32_t asr_training_span(int32_t width) {
    return (width < SPAN ? SPAN / width : 1) * width;
}

#define VECTORS PLAIN
#include "vectors.h"
static inline float positive_plain(float y) { return y > 0.0f ? 1.0f : 0.0f; }
#include "training.h"
#include "vectors_end.h"

#if ASR_X86
#define VECTORS AVX2
#include "vectors.h"
TARGET static inline __m256 positive_avx2(__m256 y) {
    return _mm256_and_ps(_mm256_cmp_ps(y, _mm256_setzero_ps(), _CMP_GT_OQ), SET(1.0f));
}
#include "training.h"
#include "vectors_end.h"

#define VECTORS AVX512
#include "vectors.h"
TARGET static inline __m512 positive_avx512(__m512 y) {
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(y, _mm512_setzero_ps(), _CMP_GT_OQ), SET(1.0f));
}
#include "training.h"
#include "vectors_end.h"
#elif ASR_ARM
#define VECTORS NEON
#include "vectors.h"
static inline float32x4_t positive_neon(float32x4_t y) {
    return vbslq_f32(vcgtq_f32(y, SET(0.0f)), SET(1.0f), SET(0.0f));
}
#include "training.h"
#include "vectors_end.h"
#endif

/* Fills states from 1 on, and saved. */
ASR_EXPORT void asr_training_forward(const asr_training *p, const float *x, float *states,
                                     float *saved) {
#if ASR_X86
    if (p->level >= ASR_AVX512F && p->width % 16 == 0)
        forward_avx512(p, x, states, saved);
    else if (p->level >= ASR_AVX2)
        forward_avx2(p, x, states, saved);
    else
#elif ASR_ARM
    if (p->level >= ASR_NEON)
        forward_neon(p, x, states, saved);
    else
#endif
        forward_plain(p, x, states, saved);
}

/* grad (frames, hidden, width) is of states from 1 on; grad_x is like x; carry, (hidden, width) of
 * zeros, is overwritten, and saved; `beside` is room for the larger of inputs and hidden rows of
 * asr_training_span(width) floats. */
ASR_EXPORT void asr_training_backward(const asr_training *p, const float *x, const float *states,
                                      float *saved, const float *grad, float *carry,
                                      float *grad_x, float *beside) {
#if ASR_X86
    if (p->level >= ASR_AVX512F && p->width % 16 == 0)
        backward_avx512(p, x, states, saved, grad, carry, grad_x, beside);
    else if (p->level >= ASR_AVX2)
        backward_avx2(p, x, states, saved, grad, carry, grad_x, beside);
    else
#elif ASR_ARM
    if (p->level >= ASR_NEON)
        backward_neon(p, x, states, saved, grad, carry, grad_x, beside);
    else
#endif
        backward_plain(p, x, states, saved, grad, carry, grad_x, beside);
}
