/* Dense convolution over bands and frames, bias and clipping included.
 *
 * The input lies band by band, frame by frame, its channels side by side, so that the taps of one
 * output frame in one band are consecutive floats: a product of overlapping rows with a matrix, and
 * nothing is copied for it. A tile of some frames by some channels stays in registers over all
 * taps; each weight vector is loaded once for all frames of a tile. */
#include <string.h>

#include "sparse.h"

/* What all tiles of a call share; strides count floats. */
struct taps {
    const float *weights; /* (kernel bands, taps, channels), channels filled up to PADDED */
    const float *bias;    /* (channels) */
    int64_t channels;     /* a multiple of PADDED */
    int64_t taps;         /* in one band: kernel frames x input channels */
    int64_t band;         /* from one input band to the next */
    int64_t frame;        /* from one output frame to the next, in the input */
    float low, high;
};

enum { PADDED = 16, MOST_FRAMES = 12, MOST_CHANNELS = 32 };

/* Output frames x channels from `x`, over `bands` bands of the kernel, into `out`. */
typedef void (*tile)(const struct taps *s, const float *x, const float *w, const float *bias,
                     int64_t bands, float *out);

#if ASR_X86
typedef float v8 __attribute__((vector_size(32)));
typedef float v16 __attribute__((vector_size(64)));
typedef float v8u __attribute__((vector_size(32), aligned(4)));
typedef float v16u __attribute__((vector_size(64), aligned(4)));

#define TILE(NAME, SET, VEC, FRAMES, VECTORS)                                                  \
    ASR_TARGET(SET)                                                                            \
    static void NAME(const struct taps *s, const float *x, const float *w, const float *bias,  \
                     int64_t bands, float *out) {                                              \
        enum { LANES = sizeof(VEC) / sizeof(float) };                                          \
        VEC acc[FRAMES][VECTORS];                                                              \
        _Pragma("GCC unroll 12") for (int f = 0; f < FRAMES; f++)                              \
            _Pragma("GCC unroll 2") for (int v = 0; v < VECTORS; v++)                          \
                acc[f][v] = *(const VEC##u *)(bias + v * LANES);                               \
        for (int64_t b = 0; b < bands; b++) {                                                  \
            const float *row = x + b * s->band;                                                \
            for (int64_t k = 0; k < s->taps; k++, w += s->channels) {                          \
                VEC weight[VECTORS];                                                           \
                _Pragma("GCC unroll 2") for (int v = 0; v < VECTORS; v++)                      \
                    weight[v] = *(const VEC##u *)(w + v * LANES);                              \
                _Pragma("GCC unroll 12") for (int f = 0; f < FRAMES; f++)                      \
                    _Pragma("GCC unroll 2") for (int v = 0; v < VECTORS; v++)                  \
                        acc[f][v] += weight[v] * row[k + f * s->frame];                        \
            }                                                                                  \
        }                                                                                      \
        _Pragma("GCC unroll 12") for (int f = 0; f < FRAMES; f++)                              \
            _Pragma("GCC unroll 2") for (int v = 0; v < VECTORS; v++)                          \
                *(VEC##u *)(out + (f * VECTORS + v) * LANES) = acc[f][v];                      \
        for (int i = 0; i < FRAMES * VECTORS * LANES; i++) {                                   \
            const float y = out[i] > s->low ? out[i] : s->low;                                 \
            out[i] = y < s->high ? y : s->high;                                                \
        }                                                                                      \
    }

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

/* One frame at a time with loops that any compiler vectorises for its plainest machine. */
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

/* Tiles of a number of channels, the widest first; the last is of one frame. */
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
#else
    (void)level;
    (void)channels_left;
#endif
    return (struct tiles){PADDED, {{1, tile_plain}, {1, tile_plain}, {1, tile_plain}}};
}

/* Output bands x frames x channels of a convolution, clipped from `low` to `high`.
 *
 * `x` has `bands_in` bands `x_band` floats apart; output frame t reads, in each band of the
 * kernel, `taps` floats from `t * x_frame` on, so that its edges lie in the input as zeros. Bands
 * beyond the edges count as zeros and are not there: output band o begins `pad` bands before
 * band `o * band_stride`. `y` may have any strides. */
ASR_EXPORT void asr_convolution(int32_t level, const float *x, int64_t bands_in, int64_t x_band,
                                int64_t x_frame, const float *weights, const float *bias,
                                int64_t kernel_bands, int64_t taps, int64_t channels,
                                int64_t band_stride, int64_t pad, float *y, int64_t bands,
                                int64_t frames, int64_t y_band, int64_t y_frame, int64_t y_channel,
                                float low, float high) {
    const int64_t padded = (channels + PADDED - 1) / PADDED * PADDED;
    const struct taps s = {weights, bias, padded, taps, x_band, x_frame, low, high};
    float out[MOST_FRAMES * MOST_CHANNELS];
    for (int64_t c = 0; c < padded;) {
        const struct tiles tiles = choose(level, padded - c);
        const int64_t kept = channels - c < tiles.channels ? channels - c : tiles.channels;
        for (int64_t o = 0; o < bands; o++) {
            const int64_t top = o * band_stride - pad;
            const int64_t first = top < 0 ? -top : 0;
            const int64_t last = top + kernel_bands > bands_in ? bands_in - top : kernel_bands;
            const float *row = x + (top + first) * x_band;
            const float *w = weights + first * taps * padded + c;
            for (int64_t t = 0, size = 0; t < frames;) {
                while (tiles.by_frames[size].frames > frames - t) size++;
                const int32_t count = tiles.by_frames[size].frames;
                tiles.by_frames[size].run(&s, row + t * x_frame, w, bias + c, last - first, out);
                for (int32_t f = 0; f < count; f++, t++) {
                    float *to = y + o * y_band + t * y_frame + c * y_channel;
                    const float *from = out + f * tiles.channels;
                    if (y_channel == 1) memcpy(to, from, (size_t)kept * sizeof *to);
                    else
                        for (int64_t i = 0; i < kept; i++) to[i * y_channel] = from[i];
                }
            }
        }
        c += tiles.channels;
    }
}
