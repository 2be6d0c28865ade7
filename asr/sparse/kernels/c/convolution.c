/* Convolution over bands and frames with bias and clipping, of dense and of pruned weights.
 *
 * The input is [band][frame][channel], so the taps of one output frame in one band are consecutive
 * floats, and those of the next frame begin `x_frame` later:
 *
 *   band b    c c c | c c c | c c c | c c c | ...      3 channels, a kernel of 2 frames, stride 1:
 *             `- frame 0 -'                            6 taps in each band
 *                     `- frame 1 -'
 *
 * A dense convolution is thus a product of overlapping rows with a matrix, and copies nothing. A
 * tile of some frames by some channels stays in registers over all taps: each vector of weights is
 * loaded once for all frames of the tile. A pruned convolution copies the taps of ASR_PASS frames
 * from all bands of the kernel, and calls a sparse product.
 */
#include <string.h>

#include "convolution.h"

/* Constants of a call; strides count floats. */
struct taps {
    const float *weights; /* (kernel bands, taps, channels), channels padded to PADDED */
    const float *bias;    /* (channels) */
    int64_t channels;     /* a multiple of PADDED */
    int64_t taps;         /* in one band: kernel frames x input channels */
    int64_t band;         /* from one input band to the next */
    int64_t frame;        /* from one output frame to the next, in the input */
    float low, high;
};

enum { PADDED = 16, MOST_FRAMES = 12, MOST_CHANNELS = 32 };

/* Computes output frames x channels from `x`, over `bands` bands of the kernel, into `out`. */
typedef void (*tile)(const struct taps *s, const float *x, const float *w, const float *bias,
                     int64_t bands, float *out);

#if ASR_X86 || ASR_ARM
typedef float v4 __attribute__((vector_size(16)));
typedef float v8 __attribute__((vector_size(32)));
typedef float v16 __attribute__((vector_size(64)));
typedef float v4u __attribute__((vector_size(16), aligned(4)));
typedef float v8u __attribute__((vector_size(32), aligned(4)));
typedef float v16u __attribute__((vector_size(64), aligned(4)));

#define TILE(NAME, SET, VEC, FRAMES, VECTORS)                                                  \
    ASR_TARGET(SET)                                                                            \
    static void NAME(const struct taps *s, const float *x, const float *w, const float *bias,  \
                     int64_t bands, float *out) {                                              \
        enum { LANES = sizeof(VEC) / sizeof(float) };                                          \
        VEC acc[FRAMES][VECTORS];                                                              \
        _Pragma("GCC unroll 12") for (int f = 0; f < FRAMES; f++)                              \
            _Pragma("GCC unroll 4") for (int v = 0; v < VECTORS; v++)                          \
                acc[f][v] = *(const VEC##u *)(bias + v * LANES);                               \
        for (int64_t b = 0; b < bands; b++) {                                                  \
            const float *row = x + b * s->band;                                                \
            for (int64_t k = 0; k < s->taps; k++, w += s->channels) {                          \
                VEC weight[VECTORS];                                                           \
                _Pragma("GCC unroll 4") for (int v = 0; v < VECTORS; v++)                      \
                    weight[v] = *(const VEC##u *)(w + v * LANES);                              \
                _Pragma("GCC unroll 12") for (int f = 0; f < FRAMES; f++)                      \
                    _Pragma("GCC unroll 4") for (int v = 0; v < VECTORS; v++)                  \
                        acc[f][v] += weight[v] * row[k + f * s->frame];                        \
            }                                                                                  \
        }                                                                                      \
        _Pragma("GCC unroll 12") for (int f = 0; f < FRAMES; f++)                              \
            _Pragma("GCC unroll 4") for (int v = 0; v < VECTORS; v++)                          \
                *(VEC##u *)(out + (f * VECTORS + v) * LANES) = acc[f][v];                      \
        for (int i = 0; i < FRAMES * VECTORS * LANES; i++) {                                   \
            const float y = out[i] > s->low ? out[i] : s->low;                                 \
            out[i] = y < s->high ? y : s->high;                                                \
        }                                                                                      \
    }
#endif

#if ASR_ARM /* the 32 registers hold the sums of 6 frames, 4 vectors of weights and an input */
TILE(tile_neon_6x16, "", v4, 6, 4)
TILE(tile_neon_2x16, "", v4, 2, 4)
TILE(tile_neon_1x16, "", v4, 1, 4)
#endif

#if ASR_X86
#define AVX512 "avx512f,avx512vl,avx512dq,avx2,fma"
TILE(tile_512_12x32, AVX512, v16, 12, 2)
TILE(tile_512_4x32, AVX512, v16, 4, 2)
TILE(tile_512_1x32, AVX512, v16, 1, 2)
TILE(tile_512_12x16, AVX512, v16, 12, 1)
TILE(tile_512_4x16, AVX512, v16, 4, 1)
TILE(tile_512_1x16, AVX512, v16, 1, 1)
TILE(tile_256_6x16, "avx2,fma", v8, 6, 2)
TILE(tile_256_2x16, "avx2,fma", v8, 2, 2)
TILE(tile_256_1x16, "avx2,fma", v8, 1, 2)
#endif

/* One frame at a time, in loops that a compiler vectorises for any processor. */
static void tile_plain(const struct taps *s, const float *x, const float *w, const float *bias,
                       int64_t bands, float *out) {
    float acc[PADDED];
    memcpy(acc, bias, sizeof acc);
    for (int64_t b = 0; b < bands; b++)
        for (int64_t k = 0; k < s->taps; k++, w += s->channels) {
            const float value = x[b * s->band + k];
            for (int c = 0; c < PADDED; c++) acc[c] += w[c] * value;
        }
    for (int c = 0; c < PADDED; c++) {
        const float y = acc[c] > s->low ? acc[c] : s->low;
        out[c] = y < s->high ? y : s->high;
    }
}

/* Tiles with this number of channels, by frames, the largest first; the last has one frame. */
struct tiles {
    int32_t channels;
    struct {
        int32_t frames;
        tile run;
    } by_frames[3];
};

static struct tiles choose(int32_t level, int64_t channels_left) {
#if ASR_X86
    if (level >= ASR_AVX512F && channels_left >= 32)
        return (struct tiles){32, {{12, tile_512_12x32}, {4, tile_512_4x32}, {1, tile_512_1x32}}};
    if (level >= ASR_AVX512F)
        return (struct tiles){16, {{12, tile_512_12x16}, {4, tile_512_4x16}, {1, tile_512_1x16}}};
    if (level >= ASR_AVX2)
        return (struct tiles){16, {{6, tile_256_6x16}, {2, tile_256_2x16}, {1, tile_256_1x16}}};
#endif
#if ASR_ARM
    if (level >= ASR_NEON)
        return (struct tiles){
            16, {{6, tile_neon_6x16}, {2, tile_neon_2x16}, {1, tile_neon_1x16}}};
#endif
    (void)level;
    (void)channels_left;
    return (struct tiles){PADDED, {{1, tile_plain}, {1, tile_plain}, {1, tile_plain}}};
}

/* A dense convolution; `weights` and `bias` as in `taps`. */
ASR_EXPORT void asr_convolution(int32_t level, const shape *c, const float *x,
                                const float *weights, const float *bias, float *y) {
    const int64_t padded = (c->channels + PADDED - 1) / PADDED * PADDED;
    const struct taps s = {weights, bias, padded, c->taps, c->x_band, c->x_frame, c->low, c->high};
    float out[MOST_FRAMES * MOST_CHANNELS];
    for (int64_t channel = 0; channel < padded;) {
        const struct tiles tiles = choose(level, padded - channel);
        const int64_t left = c->channels - channel;
        const int64_t kept = left < tiles.channels ? left : tiles.channels;
        for (int64_t o = 0; o < c->bands; o++) {
            int64_t first, last;
            inside(c, o, &first, &last);
            const float *row = x + (o * c->band_stride - c->pad + first) * c->x_band;
            const float *w = weights + first * c->taps * padded + channel;
            for (int64_t t = 0, size = 0; t < c->frames;) {
                while (tiles.by_frames[size].frames > c->frames - t) size++;
                const int32_t count = tiles.by_frames[size].frames;
                tiles.by_frames[size].run(&s, row + t * c->x_frame, w, bias + channel,
                                          last - first, out);
                for (int32_t f = 0; f < count; f++, t++) {
                    float *to = y + o * c->y_band + t * c->y_frame + channel * c->y_channel;
                    const float *from = out + f * tiles.channels;
                    if (c->y_channel == 1) memcpy(to, from, (size_t)kept * sizeof *to);
                    else
                        for (int64_t i = 0; i < kept; i++) to[i * c->y_channel] = from[i];
                }
            }
        }
        channel += tiles.channels;
    }
}

/* A pruned convolution: `m` is (channels, kernel bands x taps). `patches` has room for ASR_PASS
 * inputs and then ASR_PASS outputs of `m`, `scratch` for asr_scratch(m) bytes. Returns 0, or 1 if
 * this build has no kernel for the layout. */
ASR_EXPORT int32_t asr_sparse_convolution(const asr_matrix *m, const shape *c, const float *x,
                                          const float *bias, float *y, float *patches,
                                          void *scratch) {
    asr_product_fn *product = asr_product_of(m);
    if (!product) return 1;
    const int64_t size = c->kernel_bands * c->taps;
    const float *from[ASR_PASS];
    float *to[ASR_PASS];
    for (int j = 0; j < ASR_PASS; j++) {
        from[j] = patches + j * size;
        to[j] = patches + ASR_PASS * size + j * c->channels;
    }
    for (int64_t o = 0; o < c->bands; o++) {
        int64_t first, last;
        inside(c, o, &first, &last);
        memset(patches, 0, (size_t)(ASR_PASS * size) * sizeof *patches);
        for (int64_t t = 0; t < c->frames; t += ASR_PASS) {
            const int some = (int)(c->frames - t < ASR_PASS ? c->frames - t : ASR_PASS);
            for (int j = 0; j < some; j++)
                for (int64_t i = first; i < last; i++)
                    memcpy(patches + j * size + i * c->taps,
                           x + (o * c->band_stride - c->pad + i) * c->x_band + (t + j) * c->x_frame,
                           (size_t)c->taps * sizeof *x);
            product(m, from, some, bias, to, scratch);
            for (int j = 0; j < some; j++) {
                float *at = y + o * c->y_band + (t + j) * c->y_frame;
                for (int64_t i = 0; i < c->channels; i++) {
                    const float value = to[j][i] > c->low ? to[j][i] : c->low;
                    at[i * c->y_channel] = value < c->high ? value : c->high;
                }
            }
        }
    }
    return 0;
}
