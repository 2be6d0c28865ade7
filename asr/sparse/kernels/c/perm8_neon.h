/* The product of perm8 in vectors of 16 bytes. perm8_neon.c includes this once for each way to
 * multiply bytes: NAME, TARGET and
 *
 *   DOT(acc, w, p)    acc plus the four products of each row
 */

/* Sums of 4 * `vectors` rows for n of the `ld` columns of the table. The words and their positions
 * are loaded once for all columns, a table once for all rows. `step` bytes lie between
 * what one row meets and what it meets next. With few sums there are two for each, so that an
 * addition need not wait for the one before. */
TARGET ASR_INLINE void NAME(rows)(const int8_t *w, const size_t step, const uint16_t *at, int count,
                                  const int8_t *table, const size_t ld, const int vectors,
                                  const int pairs, int32x4_t sums[][8], const int n) {
    const int chains = n * vectors <= 4 ? 2 : 1;
    int32x4_t acc[2][ASR_PASS][8];
    EACH(j, n) EACH(v, vectors) acc[0][j][v] = acc[1][j][v] = vdupq_n_s32(0);
#define STEP(K)                                                                              \
    {                                                                                        \
        const int8_t *t[4];                                                                  \
        EACH(k, 2 * pairs) t[k] = table + ld * at[k];                                        \
        EACH(j, n) {                                                                         \
            int8x16x2_t two;                                                                 \
            int8x16x4_t four;                                                                \
            if (pairs == 1) EACH(k, 2) two.val[k] = vld1q_s8(t[k] + 16 * j);                 \
            else EACH(k, 4) four.val[k] = vld1q_s8(t[k] + 16 * j);                           \
            EACH(v, vectors) {                                                               \
                const int8_t *from = w + 64 * (v / 2) + 16 * (v % 2);                        \
                const uint8x16_t c = vld1q_u8((const uint8_t *)from + 32);                   \
                const int8x16_t p = pairs == 1 ? vqtbl2q_s8(two, c) : vqtbl4q_s8(four, c);   \
                acc[K][j][v] = DOT(acc[K][j][v], vld1q_s8(from), p);                         \
            }                                                                                \
        }                                                                                    \
        w += step;                                                                           \
        at += 2 * pairs;                                                                     \
    }
    if (chains == 2)
        for (; count >= 2; count -= 2) {
            STEP(0)
            STEP(1)
        }
    for (; count > 0; count--) STEP(0)
#undef STEP
    EACH(j, n) EACH(v, vectors) sums[j][v] =
        chains == 2 ? vaddq_s32(acc[0][j][v], acc[1][j][v]) : acc[0][j][v];
}

/* All groups, for n columns of the `ld` in the table: as many rows at once as the 32 registers have
 * room for, with their words and a table. */
TARGET ASR_INLINE void NAME(groups)(const asr_matrix *m, const int8_t *table, const size_t ld,
                                    const float *units, const float *bias, float *const *y,
                                    const int lanes, const int pairs, const int n) {
    const int vectors = lanes == 8 ? 2 : n == 1 ? 8 : n == 2 ? 4 : 2;
    const int8_t *w = m->words;
    const uint16_t *at = m->index;
    for (int g = 0; g < m->groups; g++) {
        const int count = m->starts[g + 1] - m->starts[g];
        for (int lane = 0; lane < lanes; lane += 4 * vectors) {
            int32x4_t sums[ASR_PASS][8];
            NAME(rows)(w + 8 * lane, 8 * lanes, at, count, table, ld, vectors, pairs, sums, n);
            EACH(j, n) EACH(v, vectors)
                store_lanes(m, g, lane + 4 * v, units[j], bias, sums[j][v], y[j]);
        }
        w += (size_t)8 * lanes * count;
        at += (size_t)2 * pairs * count;
    }
}

#define FUNCTION(KIND, LANES, PAIRS, N)                                                      \
    TARGET ASR_INSTANCE void NAME(KIND##N)(const asr_matrix *m, const int8_t *table, size_t ld,   \
                                          const float *units, const float *bias,             \
                                          float *const *y) {                                 \
        NAME(groups)(m, table, ld, units, bias, y, LANES, PAIRS, N);                         \
    }
FUNCTION(single, 8, 1, 1)
FUNCTION(single, 8, 1, 2)
FUNCTION(single, 8, 1, 3)
FUNCTION(single, 8, 1, 4)
FUNCTION(bank, 32, 1, 1)
FUNCTION(bank, 32, 1, 2)
FUNCTION(bank, 32, 1, 3)
FUNCTION(bank, 32, 1, 4)
FUNCTION(banks, 32, 2, 1)
FUNCTION(banks, 32, 2, 2)
FUNCTION(banks, 32, 2, 3)
FUNCTION(banks, 32, 2, 4)
#undef FUNCTION

TARGET void NAME(asr_perm8)(const asr_matrix *m, const float *const *x, int n, const float *bias,
                            float *const *y, void *scratch) {
    static groups_fn *const functions[3][4] = {
        {NAME(single1), NAME(single2), NAME(single3), NAME(single4)},
        {NAME(bank1), NAME(bank2), NAME(bank3), NAME(bank4)},
        {NAME(banks1), NAME(banks2), NAME(banks3), NAME(banks4)},
    };
    const int kind = m->lanes == 8 ? 0 : m->pairs;
    float units[ASR_PASS];
    int8_t *table = scratch;
    for (int j = 0; j < n; j++) units[j] = quantise(x[j], m->columns, table + 16 * j, 16 * n);
    for (int done = 0; done < n; done += 4) {
        const int some = n - done < 4 ? n - done : 4;
        functions[kind][some - 1](m, table + 16 * done, n, units + done, bias, y + done);
    }
}

#undef NAME
#undef TARGET
#undef DOT
