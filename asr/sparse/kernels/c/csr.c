/* csr: element by element in plain C, for every processor.
 *
 *   row 0   a . b .      starts   0 2 3 6          of each row, in words
 *   row 1   . c . .      wide     0 2 1 0 2 3      column of each word
 *   row 2   d . e f      words    a b c d e f
 *
 * An element is loaded once for up to ASR_PASS columns of the input.
 */
#include "sparse.h"

ASR_INLINE void columns(const asr_matrix *m, const int n, const float *const *x, const float *bias,
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
