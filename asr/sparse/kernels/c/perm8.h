/* The product of perm8 in vectors of 32 bytes. perm8.c includes this once for each way to multiply
 * bytes: NAME, TARGET, OFFSET (what is added to the bytes of the input) and
 *
 *   DOT(acc, w, p)    acc plus the four products of each row
 */

#define TABLE(at) _mm256_broadcastsi128_si256(_mm_load_si128((const __m128i *)(at)))
#define LOOK(first, second) \
    _mm256_or_si256(_mm256_shuffle_epi8(first, c), _mm256_shuffle_epi8(second, d))

/* Stops the compiler from moving sums between registers in every step. */
#define IN_PLACE(x) __asm__("" : "+x"(x))

/* One vector of weights at W, whose tables are FIRST and SECOND; with two pairs, THIRD and FOURTH
 * for the upper two bytes of each row. */
#define VECTOR(ACC, FIRST, SECOND, THIRD, FOURTH)                                \
    {                                                                               \
        __m256i p = LOOK(FIRST, SECOND);                                            \
        if (pairs == 2) p = _mm256_blend_epi16(p, LOOK(THIRD, FOURTH), 0xaa);       \
        ACC = DOT(ACC, word, p);                                                    \
        IN_PLACE(ACC);                                                              \
    }
#define WORDS(W)                                                  \
    const __m256i word = _mm256_load_si256((const __m256i *)(W)); \
    const __m256i c = _mm256_load_si256((const __m256i *)(W) + 1); \
    const __m256i d = _mm256_xor_si256(c, _mm256_set1_epi8((char)0x80))

/* Sums of 8 rows for n columns; their vectors lie `stride` bytes apart. Below 3 columns two sums
 * each, so that a step need not wait for the one before. */
TARGET ASR_INLINE void NAME(eight)(const int8_t *w, const size_t stride, const uint16_t *at,
                                   int count, const int8_t *table, const int n, const int pairs,
                                   __m256i *sums) {
    __m256i acc[2][ASR_PASS];
    const int chains = n < 3 ? 2 : 1;
    for (int j = 0; j < n; j++) acc[0][j] = acc[1][j] = _mm256_setzero_si256();
#define STEP(K)                                                                           \
    {                                                                                     \
        WORDS(w);                                                                         \
        const int8_t *t0 = table + (size_t)n * at[0], *t1 = table + (size_t)n * at[1];      \
        const int8_t *t2 = table, *t3 = table;                                            \
        if (pairs == 2) t2 += (size_t)n * at[2], t3 += (size_t)n * at[3];                   \
        _Pragma("GCC unroll 8") for (int j = 0; j < n; j++) VECTOR(                       \
            acc[K][j], TABLE(t0 + 16 * j), TABLE(t1 + 16 * j), TABLE(t2 + 16 * j),     \
            TABLE(t3 + 16 * j))                                                           \
        w += stride;                                                                      \
        at += 2 * pairs;                                                                  \
    }
    for (; count >= 2; count -= 2) {
        STEP(0)
        STEP(chains - 1)
    }
    if (count) STEP(0)
#undef STEP
    for (int j = 0; j < n; j++)
        sums[j] = chains == 2 ? _mm256_add_epi32(acc[0][j], acc[1][j]) : acc[0][j];
}

/* Sums of 4 times 8 rows for one column: their vectors share the tables. */
TARGET ASR_INLINE void NAME(four)(const int8_t *w, const uint16_t *at, int count,
                                  const int8_t *table, const int pairs, __m256i *sums) {
    __m256i acc[4];
    for (int s = 0; s < 4; s++) acc[s] = _mm256_setzero_si256();
    for (; count > 0; count--) {
        const __m256i first = TABLE(table + at[0]), second = TABLE(table + at[1]);
        const __m256i third = pairs == 2 ? TABLE(table + at[2]) : first;
        const __m256i fourth = pairs == 2 ? TABLE(table + at[3]) : second;
#pragma GCC unroll 4
        for (int s = 0; s < 4; s++) {
            WORDS(w + 64 * s);
            VECTOR(acc[s], first, second, third, fourth)
        }
        w += 256;
        at += 2 * pairs;
    }
    for (int s = 0; s < 4; s++) sums[s] = acc[s];
}

/* Scales the sums of 8 rows, adds the bias and writes them. */
TARGET ASR_INLINE void NAME(store)(const asr_matrix *m, int g, int first, float unit,
                                   const float *bias, __m256i sums, float *y) {
    const size_t lane = (size_t)m->lanes * g + first;
    if (OFFSET)
        sums = _mm256_sub_epi32(
            sums, _mm256_slli_epi32(_mm256_load_si256((const __m256i *)(m->sums + lane)), 7));
    const __m256 scale = _mm256_mul_ps(_mm256_load_ps(m->scales + lane), _mm256_set1_ps(unit));
    const __m256 whole = _mm256_cvtepi32_ps(sums);
    const int32_t row = m->blocks ? m->lanes * m->blocks[g] + first : 0;
    if (m->blocks && m->rows - row >= 8) {
        _mm256_storeu_ps(y + row, bias ? _mm256_fmadd_ps(whole, scale, _mm256_loadu_ps(bias + row))
                                       : _mm256_mul_ps(whole, scale));
        return;
    }
    float values[8] __attribute__((aligned(32)));
    _mm256_store_ps(values, _mm256_mul_ps(whole, scale));
    scatter(m, g, first, 8, bias, values, y);
}

TARGET ASR_INLINE void NAME(columns)(const asr_matrix *m, const int n, const int lanes,
                                     const int pairs, const int8_t *table, const float *units,
                                     const float *bias, float *const *y) {
    const int8_t *w = m->words;
    const uint16_t *at = m->index;
    for (int g = 0; g < m->groups; g++) {
        const int count = m->starts[g + 1] - m->starts[g];
        if (lanes == 32 && n == 1) {
            __m256i sums[4];
            NAME(four)(w, at, count, table, pairs, sums);
            for (int s = 0; s < 4; s++) NAME(store)(m, g, 8 * s, units[0], bias, sums[s], y[0]);
        } else {
            for (int s = 0; s < lanes / 8; s++) {
                __m256i sums[ASR_PASS];
                NAME(eight)(w + 64 * s, 8 * lanes, at, count, table, n, pairs, sums);
#pragma GCC unroll 8
                for (int j = 0; j < n; j++)
                    NAME(store)(m, g, 8 * s, units[j], bias, sums[j], y[j]);
            }
        }
        w += (size_t)8 * lanes * count;
        at += 2 * pairs * count;
    }
}

#define CALL(n, lanes, pairs) NAME(columns)(m, n, lanes, pairs, scratch, units, bias, y)
#define SWITCH(lanes, pairs)                        \
    switch (n) {                                    \
        case 1: CALL(1, lanes, pairs); break;       \
        case 2: CALL(2, lanes, pairs); break;       \
        case 3: CALL(3, lanes, pairs); break;       \
        case 4: CALL(4, lanes, pairs); break;       \
        case 5: CALL(5, lanes, pairs); break;       \
        case 6: CALL(6, lanes, pairs); break;       \
        case 7: CALL(7, lanes, pairs); break;       \
        default: CALL(8, lanes, pairs); break;      \
    }

TARGET void NAME(asr_perm8)(const asr_matrix *m, const float *const *x, int n, const float *bias,
                            float *const *y, void *scratch) {
    float units[ASR_PASS];
    quantise256(x, n, m->columns, OFFSET, scratch, units);
    if (m->lanes == 8)
        SWITCH(8, 1)
    else if (m->pairs == 1)
        SWITCH(32, 1)
    else
        SWITCH(32, 2)
}

#undef NAME
#undef TARGET
#undef OFFSET
#undef DOT
#undef TABLE
#undef LOOK
#undef VECTOR
#undef WORDS
#undef IN_PLACE
#undef CALL
#undef SWITCH
