/* The transform of LANES frames at once, one in each lane of a vector: no shuffles, and the same
 * code for every width. features.c includes this once for each. Needs vectors of GCC or clang. */

typedef float NAME(vector) __attribute__((vector_size(4 * LANES), aligned(4 * LANES)));
typedef int32_t NAME(integers) __attribute__((vector_size(4 * LANES), aligned(4 * LANES)));

#define VECTOR NAME(vector)
#define INTEGERS NAME(integers)

/* One pass of the Stockham transform of `n` points by fours: `stride` transforms of n / stride
 * points become 4 * stride of a quarter. The twiddle factor of i / (n / stride) is at 2 i stride of
 * the table, which is of 2 n points. */
TARGET static void NAME(by_four)(int n, int stride, const float *cosine, const float *sine,
                                 const VECTOR *restrict x, VECTOR *restrict y) {
    const int quarter = n / stride / 4;
    for (int p = 0; p < quarter; p++) {
        const int at = 2 * p * stride;
        const float c1 = cosine[at], s1 = sine[at], c2 = cosine[2 * at], s2 = sine[2 * at];
        const float c3 = cosine[3 * at], s3 = sine[3 * at];
        const VECTOR *a = x + 2 * stride * p, *b = a + 2 * stride * quarter;
        const VECTOR *c = b + 2 * stride * quarter, *d = c + 2 * stride * quarter;
        VECTOR *out = y + 2 * stride * 4 * p;
        for (int q = 0; q < 2 * stride; q += 2) {
            const VECTOR sum_r = a[q] + c[q], sum_i = a[q + 1] + c[q + 1];
            const VECTOR dif_r = a[q] - c[q], dif_i = a[q + 1] - c[q + 1];
            const VECTOR other_r = b[q] + d[q], other_i = b[q + 1] + d[q + 1];
            /* i (b - d) */
            const VECTOR turn_r = d[q + 1] - b[q + 1], turn_i = b[q] - d[q];
            const VECTOR r1 = dif_r - turn_r, i1 = dif_i - turn_i;
            const VECTOR r2 = sum_r - other_r, i2 = sum_i - other_i;
            const VECTOR r3 = dif_r + turn_r, i3 = dif_i + turn_i;
            VECTOR *o = out + q;
            o[0] = sum_r + other_r, o[1] = sum_i + other_i;
            o += 2 * stride;
            o[0] = r1 * c1 - i1 * s1, o[1] = r1 * s1 + i1 * c1;
            o += 2 * stride;
            o[0] = r2 * c2 - i2 * s2, o[1] = r2 * s2 + i2 * c2;
            o += 2 * stride;
            o[0] = r3 * c3 - i3 * s3, o[1] = r3 * s3 + i3 * c3;
        }
    }
}

/* Complex transform of `n` points, a power of two; the result is in x or in y. */
TARGET static VECTOR *NAME(transform)(int n, const float *cosine, const float *sine, VECTOR *x,
                                      VECTOR *y) {
    int stride = 1;
    for (; stride * 4 <= n; stride *= 4) {
        NAME(by_four)(n, stride, cosine, sine, x, y);
        VECTOR *swap = x;
        x = y, y = swap;
    }
    if (stride == n) return x;
    for (int q = 0; q < n; q++) { /* two points are left: n / 2 pairs, real and imaginary parts */
        y[q] = x[q] + x[q + n];
        y[q + n] = x[q] - x[q + n];
    }
    return y;
}

/* Natural logarithm of positive numbers, within a unit in the last place or so (cephes' logf). */
TARGET static inline VECTOR NAME(logarithm)(VECTOR x) {
    const INTEGERS bits = (INTEGERS)x;
    INTEGERS exponent = (bits >> 23) - 126;
    VECTOR m = (VECTOR)((bits & 0x007fffff) | 0x3f000000); /* from 0.5 to 1 */
    const INTEGERS low = m < 0.707106781f;
    exponent += low; /* minus 1 where true */
    m = m + (VECTOR)((INTEGERS)m & low) - 1.0f;
    VECTOR p = 7.0376836292e-2f * m - 1.1514610310e-1f;
    p = p * m + 1.1676998740e-1f;
    p = p * m - 1.2420140846e-1f;
    p = p * m + 1.4249322787e-1f;
    p = p * m - 1.6668057665e-1f;
    p = p * m + 2.0000714765e-1f;
    p = p * m - 2.4999993993e-1f;
    p = p * m + 3.3333331174e-1f;
    const VECTOR square = m * m, e = __builtin_convertvector(exponent, VECTOR);
    const VECTOR y = (p * m * square - 2.12194440e-4f * e - 0.5f * square) + m + 0.693359375f * e;
    const INTEGERS nan = x != x;
    return (VECTOR)(((INTEGERS)y & ~nan) | (bits & nan));
}

/* Features of up to LANES frames, the first of which begins at `samples`. */
TARGET static void NAME(some_frames)(const asr_front *front, const float *samples, int frames,
                                     float *rows, VECTOR *x, VECTOR *y) {
    const int n = front->points / 2, window = front->window, step = front->step;
    memset(x, 0, sizeof(VECTOR) * (size_t)front->points);
    for (int i = 0; i < window; i++) { /* even samples are real, odd ones imaginary parts */
        float *lane = (float *)(x + i);
        for (int f = 0; f < frames; f++) lane[f] = samples[(size_t)f * step + i];
    }
    /* Not in the loop above: a vector cannot be read at once after its parts were written. */
    for (int i = 0; i < window; i++) x[i] *= front->hann[i];
    const VECTOR *z = NAME(transform)(n, front->cosine, front->sine, x, y);
    VECTOR *power = z == x ? y : x;
    for (int k = 0; k <= n / 2; k++) {
        /* Bins k and n - k of the real transform from those of the complex one. */
        const VECTOR *a = z + 2 * k, *b = z + 2 * ((n - k) % n);
        const VECTOR even_r = a[0] + b[0], even_i = a[1] - b[1];
        const VECTOR odd_r = a[1] + b[1], odd_i = b[0] - a[0];
        const float c = front->cosine[k], s = front->sine[k];
        const VECTOR turned_r = odd_r * c - odd_i * s, turned_i = odd_r * s + odd_i * c;
        const VECTOR r = even_r + turned_r, i = even_i + turned_i;
        const VECTOR r2 = even_r - turned_r, i2 = turned_i - even_i;
        power[k] = 0.25f * (r * r + i * i);
        power[n - k] = 0.25f * (r2 * r2 + i2 * i2);
    }
    const float *weights = front->weights;
    for (int m = 0; m < front->mels; m++) {
        const VECTOR *p = power + front->first[m];
        VECTOR sum = {0}, more = {0};
        int b = 0;
        for (; b + 1 < front->count[m]; b += 2) {
            sum += weights[b] * p[b];
            more += weights[b + 1] * p[b + 1];
        }
        if (b < front->count[m]) sum += weights[b] * p[b];
        weights += front->count[m];
        const VECTOR value = NAME(logarithm)(sum + more + front->floor);
        for (int f = 0; f < frames; f++) rows[(size_t)f * front->mels + m] = value[f];
    }
}

TARGET static void NAME(log_mel)(const asr_front *front, const float *samples, int64_t frames,
                                 float *rows, float *scratch) {
    VECTOR *x = (VECTOR *)scratch, *y = x + front->points;
    for (int64_t f = 0; f < frames; f += LANES) {
        const int64_t left = frames - f;
        NAME(some_frames)(front, samples + f * front->step, left < LANES ? (int)left : LANES,
                          rows + f * front->mels, x, y);
    }
}

TARGET static void NAME(normalise)(float *restrict rows, int64_t frames, int32_t mels,
                                   const uint8_t *restrict speech, const double *restrict spoken,
                                   int64_t reach, double weight, float floor, float *restrict old,
                                   double *restrict sums) {
    double *restrict mean = sums, *restrict whole = mean + mels;
    double *restrict sum = whole + mels, *restrict square = sum + mels;
    double total = 0;
    int64_t begin = 0;
    while (begin < frames && !speech[begin]) begin++;
    memset(sums, 0, sizeof(double) * 4 * (size_t)mels);
    /* Relative to a frame of speech digital silence is exactly 0: the rounding of its mean would
     * otherwise be divided by the floor of the deviation and come out as noise. */
    float *restrict first = old;
    memcpy(first, rows + begin * mels, sizeof(float) * (size_t)mels);
    for (int64_t t = 0; t < frames; t++) {
        float *restrict row = rows + t * mels;
        for (int m = 0; m < mels; m++) row[m] -= first[m];
        if (!speech[t]) continue;
        total += 1;
        for (int m = 0; m < mels; m++) mean[m] += row[m];
    }
    for (int m = 0; m < mels; m++) mean[m] /= total;
    for (int64_t t = begin; t < frames; t++) {
        const float *restrict row = rows + t * mels;
        if (!speech[t]) continue;
        for (int m = 0; m < mels; m++) whole[m] += (row[m] - mean[m]) * (row[m] - mean[m]);
    }
    for (int m = 0; m < mels; m++) whole[m] *= weight / total;
    /* `sum` and `square` run over the frames from t - reach to t + reach. */
    for (int64_t t = -reach; t < frames; t++) {
        const int64_t next = t + reach, gone = t - reach - 1;
        if (next < frames && speech[next]) {
            const float *restrict row = rows + next * mels;
            for (int m = 0; m < mels; m++) {
                const double value = row[m] - mean[m];
                sum[m] += value, square[m] += value * value;
            }
        }
        if (gone >= 0 && speech[gone]) {
            const float *restrict row = old + gone % (reach + 1) * mels;
            for (int m = 0; m < mels; m++) {
                const double value = row[m] - mean[m];
                sum[m] -= value, square[m] -= value * value;
            }
        }
        if (t < 0) continue;
        float *restrict row = rows + t * mels;
        memcpy(old + t % (reach + 1) * mels, row, sizeof(float) * (size_t)mels);
        const double part = 1 / spoken[t];
        for (int m = 0; m < mels; m++) {
            const double around = sum[m] * part;
            double variance = (square[m] + whole[m]) * part - around * around;
            variance = variance > 0 ? variance : 0;
            row[m] = (float)(row[m] - mean[m] - around) / (sqrtf((float)variance) + floor);
        }
    }
}

#undef VECTOR
#undef INTEGERS
#undef LANES
#undef NAME
#undef TARGET
