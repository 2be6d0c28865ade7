/* csr: element by element in plain C, what every processor can do. */
#include "sparse.h"

/* n is a constant where this is inlined. */
static inline __attribute__((always_inline)) void columns(const asr_matrix *m, const int n,
                                                          const float *const *x, const float *bias,
                                                          float *const *y) {
    const float *w = m->words;
    for (int r = 0; r < m->rows; r++) {
        float sum[ASR_PASS] = {0};
        for (int32_t k = m->starts[r]; k < m->starts[r + 1]; k++)
            for (int j = 0; j < n; j++) sum[j] += w[k] * x[j][m->wide[k]];
        for (int j = 0; j < n; j++) y[j][r] = bias ? sum[j] + bias[r] : sum[j];
    }
}

void asr_csr(const asr_matrix *m, const float *const *x, int n, const float *bias,
             float *const *y, void *scratch) {
    (void)scratch;
    switch (n) {
        case 1: columns(m, 1, x, bias, y); break;
        case 2: columns(m, 2, x, bias, y); break;
        case 3: columns(m, 3, x, bias, y); break;
        case 4: columns(m, 4, x, bias, y); break;
        case 5: columns(m, 5, x, bias, y); break;
        case 6: columns(m, 6, x, bias, y); break;
        case 7: columns(m, 7, x, bias, y); break;
        default: columns(m, 8, x, bias, y); break;
    }
}
