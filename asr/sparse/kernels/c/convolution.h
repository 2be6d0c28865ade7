/* Where a convolution reads and writes: for convolution.c and convolution16.c. */
#ifndef ASR_CONVOLUTION_H
#define ASR_CONVOLUTION_H

#include "sparse.h"

/* Must equal `_Shape` in asr/model/native_convolution.py.
 *
 * Output frame t reads, in each band of the kernel, `taps` numbers from `t * x_frame` on: the caller
 * has padded the frames. Bands are not padded: output band o begins `pad` bands before band `o *
 * band_stride`, and bands outside the input count as zeros. The output may have any strides, all
 * strides count numbers, and results are clipped to `low` .. `high`. */
typedef struct {
    int64_t bands_in, x_band, x_frame;
    int64_t kernel_bands, taps, channels, band_stride, pad;
    int64_t bands, frames, y_band, y_frame, y_channel;
    float low, high;
} shape;

/* The bands of the kernel that are inside the input for output band `o`: `first` up to `last`. */
ASR_INLINE void inside(const shape *s, int64_t o, int64_t *first, int64_t *last) {
    const int64_t top = o * s->band_stride - s->pad;
    *first = top < 0 ? -top : 0;
    *last = top + s->kernel_bands > s->bands_in ? s->bands_in - top : s->kernel_bands;
}

#endif
