/* A dense convolution of 16-bit integers: twice as many products an instruction as in fp32.
 *
 * Input and weights are rounded to integers; `convolution.c` draws how the input lies in memory. An
 * instruction multiplies a tap and the one behind it by both of their weights and adds the two
 * products, so the weights of two taps lie side by side:
 *
 *   w   k0 k1 | k0 k1 | ...      of channel 0, 1, ...; then the next two taps
 *
 * If a band has an odd number of taps, the last one shares its instruction with a weight of 0.
 * Python has chosen the steps so that no sum exceeds 32 bits (`_round_weights` in
 * asr/model/native_convolution.py). Integer sums are exact: every instruction set gives the same.
 */
#include <string.h>

#include "convolution.h"

#if ASR_X86

#include <immintrin.h>

/* What the tiles of a call share. */
struct taps16 {
    int64_t channels; /* a multiple of PADDED */
    int64_t pairs;    /* of taps in one band */
    int64_t band, frame;
    float low, high;
    float steps; /* results are rounded to 1 / steps and stored as int16; 0: floats */
};

enum { PADDED = 16, MOST = 12 * 32 };

/* Computes output frames x channels over `bands` bands of the kernel, as float or int16. */
typedef void tile16(const struct taps16 *s, const int16_t *x, const int16_t *w, const float *scales,
                    const float *bias, int64_t bands, void *out);

/* The two taps at `x` in every lane. */
static inline int32_t two(const int16_t *x) {
    int32_t both;
    memcpy(&both, x, sizeof both);
    return both;
}

#define TILE16(NAME, SET, BITS, REAL, LANES, FRAMES, VECTORS, DOT, PACK)                          \
    ASR_TARGET(SET)                                                                               \
    static void NAME(const struct taps16 *s, const int16_t *x, const int16_t *w,                  \
                     const float *scales, const float *bias, int64_t bands, void *out) {          \
        __m##BITS##i acc[FRAMES][VECTORS];                                                        \
        memset(acc, 0, sizeof acc);                                                               \
        for (int64_t b = 0; b < bands; b++) {                                                     \
            const int16_t *row = x + b * s->band;                                                 \
            for (int64_t k = 0; k < s->pairs; k++, w += 2 * s->channels) {                        \
                __m##BITS##i weight[VECTORS];                                                     \
                _Pragma("GCC unroll 2") for (int v = 0; v < VECTORS; v++) weight[v] =             \
                    _mm##BITS##_LOAD(w + 2 * v * LANES);                                          \
                _Pragma("GCC unroll 12") for (int f = 0; f < FRAMES; f++) {                       \
                    const __m##BITS##i taps = _mm##BITS##_SET(two(row + 2 * k + f * s->frame));   \
                    _Pragma("GCC unroll 2") for (int v = 0; v < VECTORS; v++) acc[f][v] =         \
                        DOT(acc[f][v], weight[v], taps);                                          \
                }                                                                                 \
            }                                                                                     \
        }                                                                                         \
        _Pragma("GCC unroll 12") for (int f = 0; f < FRAMES; f++)                                 \
            _Pragma("GCC unroll 2") for (int v = 0; v < VECTORS; v++) {                           \
                REAL y = _mm##BITS##_REAL(acc[f][v]) * *(const REAL##u *)(scales + v * LANES) +   \
                         *(const REAL##u *)(bias + v * LANES);                                    \
                y = _mm##BITS##_BETWEEN(y, s->low, s->high);                                      \
                const int at = (f * VECTORS + v) * LANES;                                         \
                if (s->steps > 0) PACK((int16_t *)out + at, _mm##BITS##_WHOLE(y * s->steps));     \
                else *(REAL##u *)((float *)out + at) = y;                                         \
            }                                                                                     \
    }

typedef float v8 __attribute__((vector_size(32)));
typedef float v16 __attribute__((vector_size(64)));
typedef float v8u __attribute__((vector_size(32), aligned(4)));
typedef float v16u __attribute__((vector_size(64), aligned(4)));

#define _mm256_LOAD(p) _mm256_loadu_si256((const __m256i *)(p))
#define _mm256_SET(x) _mm256_set1_epi32(x)
#define _mm256_REAL(x) (v8) _mm256_cvtepi32_ps(x)
#define _mm256_BETWEEN(y, low, high) \
    (v8) _mm256_min_ps(_mm256_max_ps((__m256)(y), _mm256_set1_ps(low)), _mm256_set1_ps(high))
#define _mm256_WHOLE(y) _mm256_cvtps_epi32((__m256)(y))
#define _mm512_LOAD(p) _mm512_loadu_si512(p)
#define _mm512_SET(x) _mm512_set1_epi32(x)
#define _mm512_REAL(x) (v16) _mm512_cvtepi32_ps(x)
#define _mm512_BETWEEN(y, low, high) \
    (v16) _mm512_min_ps(_mm512_max_ps((__m512)(y), _mm512_set1_ps(low)), _mm512_set1_ps(high))
#define _mm512_WHOLE(y) _mm512_cvtps_epi32((__m512)(y))

#define PACK_256(to, y)                                                                     \
    _mm_storeu_si128((__m128i *)(to), _mm_packs_epi32(_mm256_castsi256_si128(y),            \
                                                      _mm256_extracti128_si256(y, 1)))
#define PACK_512(to, y) _mm256_storeu_si256((__m256i *)(to), _mm512_cvtepi32_epi16(y))
#define MADD_256(acc, w, x) _mm256_add_epi32(acc, _mm256_madd_epi16(w, x))
#define MADD_512(acc, w, x) _mm512_add_epi32(acc, _mm512_madd_epi16(w, x))

#define BW "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma"
#define TILES_512(SUFFIX, SET, DOT)                                                            \
    TILE16(tile_512_12x32##SUFFIX, SET, 512, v16, 16, 12, 2, DOT, PACK_512)                    \
    TILE16(tile_512_4x32##SUFFIX, SET, 512, v16, 16, 4, 2, DOT, PACK_512)                      \
    TILE16(tile_512_1x32##SUFFIX, SET, 512, v16, 16, 1, 2, DOT, PACK_512)                      \
    TILE16(tile_512_12x16##SUFFIX, SET, 512, v16, 16, 12, 1, DOT, PACK_512)                    \
    TILE16(tile_512_4x16##SUFFIX, SET, 512, v16, 16, 4, 1, DOT, PACK_512)                      \
    TILE16(tile_512_1x16##SUFFIX, SET, 512, v16, 16, 1, 1, DOT, PACK_512)
#define TILES_256(SUFFIX, SET, DOT)                                                            \
    TILE16(tile_256_6x16##SUFFIX, SET, 256, v8, 8, 6, 2, DOT, PACK_256)                        \
    TILE16(tile_256_2x16##SUFFIX, SET, 256, v8, 8, 2, 2, DOT, PACK_256)                        \
    TILE16(tile_256_1x16##SUFFIX, SET, 256, v8, 8, 1, 2, DOT, PACK_256)
TILES_512(_bw, BW, MADD_512)
TILES_512(_vnni, BW ",avx512vnni", _mm512_dpwssd_epi32)
TILES_256(_avx2, "avx2,fma", MADD_256)
#if ASR_AVXVNNI
TILES_256(_avxvnni, "avx2,fma,avxvnni", _mm256_dpwssd_avx_epi32)
#endif

/* Tiles with this number of channels, by frames, the largest first; the last has one frame. */
struct tiles16 {
    int32_t channels;
    struct {
        int32_t frames;
        tile16 *run;
    } by_frames[3];
};

#define CHOICE_512(SUFFIX)                                                                     \
    left >= 32 ? (struct tiles16){32,                                                          \
                                  {{12, tile_512_12x32##SUFFIX},                               \
                                   {4, tile_512_4x32##SUFFIX},                                 \
                                   {1, tile_512_1x32##SUFFIX}}}                                \
               : (struct tiles16){16,                                                          \
                                  {{12, tile_512_12x16##SUFFIX},                               \
                                   {4, tile_512_4x16##SUFFIX},                                 \
                                   {1, tile_512_1x16##SUFFIX}}}
#define CHOICE_256(SUFFIX)                                                                     \
    (struct tiles16) {                                                                         \
        16, {                                                                                  \
            {6, tile_256_6x16##SUFFIX}, {2, tile_256_2x16##SUFFIX}, {1, tile_256_1x16##SUFFIX} \
        }                                                                                      \
    }

static struct tiles16 choose(int32_t level, int64_t left) {
    if (level >= ASR_AVX512VNNI) return CHOICE_512(_vnni);
    if (level >= ASR_AVX512BW) return CHOICE_512(_bw);
#if ASR_AVXVNNI
    if (level == ASR_AVX2VNNI && asr_has_avxvnni()) return CHOICE_256(_avxvnni);
#endif
    return CHOICE_256(_avx2);
}

#endif

/* `weights` (kernel bands, pairs of taps, channels padded to 16, 2), `scales` (channels): what 1
 * stands for in a sum. The input may be read one number beyond the last tap. Returns 0, or 1 where
 * this build or this level has no such kernel. */
ASR_EXPORT int32_t asr_convolution16(int32_t level, const shape *c, const int16_t *x,
                                     const int16_t *weights, const float *scales,
                                     const float *bias, void *y, float steps) {
#if ASR_X86
    if (level < ASR_AVX2) return 1;
    const int64_t padded = (c->channels + PADDED - 1) / PADDED * PADDED;
    const int64_t pairs = (c->taps + 1) / 2;
    const struct taps16 s = {padded, pairs, c->x_band, c->x_frame, c->low, c->high, steps};
    const size_t size_of = steps > 0 ? sizeof(int16_t) : sizeof(float);
    float out[MOST];
    for (int64_t channel = 0; channel < padded;) {
        const struct tiles16 tiles = choose(level, padded - channel);
        const int64_t left = c->channels - channel;
        const int64_t kept = left < tiles.channels ? left : tiles.channels;
        for (int64_t o = 0; o < c->bands; o++) {
            int64_t first, last;
            inside(c, o, &first, &last);
            const int16_t *row = x + (o * c->band_stride - c->pad + first) * c->x_band;
            const int16_t *w = weights + 2 * (first * pairs * padded + channel);
            for (int64_t t = 0, size = 0; t < c->frames;) {
                while (tiles.by_frames[size].frames > c->frames - t) size++;
                const int32_t count = tiles.by_frames[size].frames;
                tiles.by_frames[size].run(&s, row + t * c->x_frame, w, scales + channel,
                                          bias + channel, last - first, out);
                for (int32_t f = 0; f < count; f++, t++) {
                    const int64_t to = o * c->y_band + t * c->y_frame + channel * c->y_channel;
                    const void *from = (char *)out + size_of * (size_t)(f * tiles.channels);
                    if (c->y_channel == 1)
                        memcpy((char *)y + size_of * (size_t)to, from, size_of * (size_t)kept);
                    else if (steps > 0)
                        for (int64_t i = 0; i < kept; i++)
                            ((int16_t *)y)[to + i * c->y_channel] = ((const int16_t *)from)[i];
                    else
                        for (int64_t i = 0; i < kept; i++)
                            ((float *)y)[to + i * c->y_channel] = ((const float *)from)[i];
                }
            }
        }
        channel += tiles.channels;
    }
    return 0;
#else
    (void)level, (void)c, (void)x, (void)weights, (void)scales, (void)bias, (void)y, (void)steps;
    return 1;
#endif
}
