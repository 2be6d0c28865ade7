/* perm8: 8-bit weights and, beside them, the columns of 8 bits that they meet.
 *
 *   one vector:   | w w w w | w w w w | ... | w w w w |      32 bytes, 4 for each of 8 rows
 *                 | c c c c | c c c c | ... | c c c c |      32 bytes
 *                   row 0     row 1           row 7
 *
 *   one c:        the column within a stretch of 16; with the top bit set, within the second one
 *   index:        for each vector two stretches of 16 columns, as 16 times their numbers
 *
 * The input is rounded to signed bytes, at most INPUT. 16 of them lie in a register: a byte shuffle
 * fetches the inputs of a whole vector from one stretch, and gives 0 where the top bit of c is set.
 * So the inputs of both stretches are
 *
 *     shuffle(first, c) | shuffle(second, c ^ 0x80)
 *
 * and instructions that multiply bytes and add the four products of a row do the rest. The sums
 * are exact integers, so that every instruction set gives the same bits. An empty slot has w = 0.
 *
 * Two variants, for bank patterns (layouts.py chooses them):
 *   lanes 32      a group is 4 times 8 rows: 4 vectors that lie one after the other read the same
 *                 two stretches, which are loaded once for all of them
 *   pairs 2       the first two bytes of every row read one pair of stretches, the other two a
 *                 second pair: `index` has four numbers for each vector
 */
#include <math.h>

#include "sparse.h"

#define INPUT 127.0f

/* Columns of x as a table [stretch][column j][16] of bytes; units[j] is the value of 1 in it. What
 * is not finite makes the whole column NaN. */
static void quantise(const float *const *x, int n, int columns, int8_t *table, float *units) {
    const int stretches = (columns + 15) / 16;
    for (int j = 0; j < n; j++) {
        float most = 0.0f;
        int odd = 0;
        for (int i = 0; i < columns; i++) {
            const float size = fabsf(x[j][i]);
            odd |= !(size < INFINITY);
            most = size > most ? size : most;
        }
        /* A tiny largest value has no finite reciprocal; the column counts as 0. */
        const float scale = !odd && most > 1e-30f ? INPUT / most : 0.0f;
        units[j] = odd ? NAN : most / INPUT;
        for (int s = 0; s < stretches; s++) {
            int8_t *to = table + 16 * ((size_t)s * n + j);
            for (int i = 0; i < 16; i++)
                to[i] = 16 * s + i < columns && !odd ? (int8_t)rintf(x[j][16 * s + i] * scale) : 0;
        }
    }
}

/* Scales the sums of a group, adds the bias and writes them. */
static void store_group(const asr_matrix *m, int g, float unit, const float *bias,
                        const int32_t *sums, float *y) {
    for (int i = 0; i < m->lanes; i++) {
        const int32_t row = m->blocks ? m->lanes * m->blocks[g] + i : m->order[m->lanes * g + i];
        if (row < 0 || row >= m->rows) continue;
        const float sum = (float)sums[i] * (m->scales[m->lanes * g + i] * unit);
        y[row] = bias ? sum + bias[row] : sum;
    }
}

void asr_perm8_plain(const asr_matrix *m, const float *const *x, int n, const float *bias,
                     float *const *y, void *scratch) {
    float units[ASR_PASS];
    const int8_t *table = scratch, *w = m->words;
    const uint16_t *at = m->index;
    quantise(x, n, m->columns, scratch, units);
    for (int g = 0; g < m->groups; g++) {
        int32_t sums[ASR_PASS][32] = {{0}};
        for (int v = m->starts[g]; v < m->starts[g + 1]; v++, at += 2 * m->pairs)
            for (int first = 0; first < m->lanes; first += 8, w += 64)
                for (int b = 0; b < 32; b++) {
                    const uint8_t c = (uint8_t)w[32 + b];
                    const uint16_t *pair = at + (m->pairs == 2 ? b & 2 : 0);
                    const int8_t *in = table + (size_t)n * pair[c >> 7] + (c & 15);
                    for (int j = 0; j < n; j++) sums[j][first + b / 4] += w[b] * in[16 * j];
                }
        for (int j = 0; j < n; j++) store_group(m, g, units[j], bias, sums[j], y[j]);
    }
}
