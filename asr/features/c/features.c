/* Waveform -> log-mel features, and their normalisation; called by asr/features/native.py.
 *
 *   asr_log_mel      windows, Fourier transforms, mel bands, logarithm
 *   asr_normalise    each band to mean 0 and deviation 1 over the speech around a frame
 *
 * lanes.h is compiled for vectors of 4 frames (any processor) and of 8 (AVX2). Everything is
 * re-entrant, single-threaded C; Python makes the tables and the memory, and has checked all sizes.
 */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(_WIN32)
#define ASR_EXPORT __declspec(dllexport)
#else
#define ASR_EXPORT __attribute__((visibility("default")))
#endif

/* GCC for Windows does not align the stack for vectors of 32 bytes (GCC bug 54412); clang does. */
#if defined(__x86_64__) && (defined(__clang__) || (defined(__GNUC__) && !defined(_WIN32)))
#define ASR_X86 1
#else
#define ASR_X86 0
#endif

/* `VERSION` of asr/features/native.py. */
ASR_EXPORT int32_t asr_features_version(void) { return 1; }

/* Tables of a front end; must equal `Tables` in asr/features/native.py. */
typedef struct {
    int32_t window, step, points, mels;
    const float *hann;    /* (window) */
    const float *cosine;  /* (points): of 2 pi i / points */
    const float *sine;    /* and minus its sine */
    const int32_t *first; /* (mels): first bin of a band */
    const int32_t *count; /* (mels): its bins */
    const float *weights; /* of all bands, one after the other */
    float floor;          /* added before the logarithm */
} asr_front;

#define LANES 4
#define NAME(x) x##_4
#define TARGET
#include "lanes.h"

#if ASR_X86
#define LANES 8
#define NAME(x) x##_8
#define TARGET __attribute__((target("avx2,fma")))
#include "lanes.h"
#endif

/* Log-mel features (frames, mels) of the windows that begin every `step` samples. `scratch` holds
 * 2 * points * 8 floats and is aligned to 64. */
ASR_EXPORT void asr_log_mel(const asr_front *front, const float *samples, int64_t frames,
                            float *rows, float *scratch, int32_t wide) {
#if ASR_X86
    if (wide) {
        log_mel_8(front, samples, frames, rows, scratch);
        return;
    }
#endif
    (void)wide;
    log_mel_4(front, samples, frames, rows, scratch);
}

/* `rows` (frames, mels) in place: each band minus its mean, over its deviation plus `floor`, of the
 * frames of speech at most `reach` away and, with the weight of `weight` frames, of all speech.
 *
 * speech (frames): 1 for a frame of speech; spoken (frames): how many there are around, plus
 * `weight`. `old` holds (reach + 1) * mels floats, `sums` 4 * mels doubles. */
ASR_EXPORT void asr_normalise(float *restrict rows, int64_t frames, int32_t mels,
                              const uint8_t *restrict speech, const double *restrict spoken,
                              int64_t reach, double weight, float floor, float *restrict old,
                              double *restrict sums, int32_t wide) {
#if ASR_X86
    if (wide) {
        normalise_8(rows, frames, mels, speech, spoken, reach, weight, floor, old, sums);
        return;
    }
#endif
    (void)wide;
    normalise_4(rows, frames, mels, speech, spoken, reach, weight, floor, old, sums);
}
