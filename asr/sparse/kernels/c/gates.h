/* The recurrent cells in the vectors of one instruction set; gates.c includes this once for each.
 * MAXIMUM and MINIMUM return their second argument if one is NaN, so NaN in is NaN out. */

TARGET static inline VECTOR NAME(exponential)(VECTOR x) {
    x = MINIMUM(SET(86.0f), MAXIMUM(SET(-86.0f), x));
    /* exp(x) = 2^n exp(r), |r| <= ln(2) / 2; ln(2) in two parts keeps r exact. */
    const VECTOR n = NAME(whole)(MUL(x, SET(1.44269504f)));
    const VECTOR r = MADD(n, SET(2.12194440e-4f), MADD(n, SET(-0.693359375f), x));
    VECTOR p = SET(1.9875691500e-4f);
    p = MADD(p, r, SET(1.3981999507e-3f));
    p = MADD(p, r, SET(8.3334519073e-3f));
    p = MADD(p, r, SET(4.1665795894e-2f));
    p = MADD(p, r, SET(1.6666665459e-1f));
    p = MADD(p, r, SET(5.0000001201e-1f));
    p = ADD(MADD(p, MUL(r, r), r), SET(1.0f));
    return NAME(power)(p, n);
}

TARGET static inline VECTOR NAME(sigmoid)(VECTOR x) {
    return INVERSE(ADD(SET(1.0f), NAME(exponential)(SUB(SET(0.0f), x))));
}

TARGET static inline VECTOR NAME(tangent)(VECTOR x) {
    const VECTOR e = NAME(exponential)(ADD(x, x));
    return SUB(SET(1.0f), MUL(SET(2.0f), INVERSE(ADD(SET(1.0f), e))));
}

TARGET static void NAME(gru)(int hidden, const float *a, const float *b, const float *h, float *c,
                             float *out) {
    (void)c;
    for (int i = 0; i < hidden; i += LANES) {
        const int left = hidden - i;
        (void)left;
        const float *a_z = a + hidden, *a_n = a_z + hidden, *b_z = b + hidden, *b_n = b_z + hidden;
        const VECTOR r = NAME(sigmoid)(ADD(LOAD(a + i, left), LOAD(b + i, left)));
        const VECTOR z = NAME(sigmoid)(ADD(LOAD(a_z + i, left), LOAD(b_z + i, left)));
        const VECTOR n = NAME(tangent)(MADD(r, LOAD(b_n + i, left), LOAD(a_n + i, left)));
        STORE(out + i, MADD(z, SUB(LOAD(h + i, left), n), n), left);
    }
}

TARGET static void NAME(lstm)(int hidden, const float *a, const float *b, const float *h, float *c,
                              float *out) {
    (void)h;
    for (int i = 0; i < hidden; i += LANES) {
        const int left = hidden - i;
        (void)left;
        VECTOR gate[4];
        for (int g = 0; g < 4; g++) {
            const size_t at = (size_t)g * hidden + i;
            gate[g] = ADD(LOAD(a + at, left), LOAD(b + at, left));
        }
        const VECTOR kept = MUL(NAME(sigmoid)(gate[1]), LOAD(c + i, left));
        const VECTOR cell = MADD(NAME(sigmoid)(gate[0]), NAME(tangent)(gate[2]), kept);
        STORE(c + i, cell, left);
        STORE(out + i, MUL(NAME(sigmoid)(gate[3]), NAME(tangent)(cell)), left);
    }
}

TARGET static void NAME(rnn_tanh)(int hidden, const float *a, const float *b, const float *h,
                                  float *c, float *out) {
    (void)h, (void)c;
    for (int i = 0; i < hidden; i += LANES) {
        const int left = hidden - i;
        (void)left;
        STORE(out + i, NAME(tangent)(ADD(LOAD(a + i, left), LOAD(b + i, left))), left);
    }
}

TARGET static void NAME(rnn_relu)(int hidden, const float *a, const float *b, const float *h,
                                  float *c, float *out) {
    (void)h, (void)c;
    for (int i = 0; i < hidden; i += LANES) {
        const int left = hidden - i;
        (void)left;
        STORE(out + i, MAXIMUM(SET(0.0f), ADD(LOAD(a + i, left), LOAD(b + i, left))), left);
    }
}

static const asr_gates NAME(gates) = {NAME(gru), NAME(lstm), NAME(rnn_tanh), NAME(rnn_relu)};

#undef NAME
#undef TARGET
#undef VECTOR
#undef LANES
#undef LOAD
#undef STORE
#undef SET
#undef ADD
#undef SUB
#undef MUL
#undef MADD
#undef MAXIMUM
#undef MINIMUM
#undef INVERSE
#undef TAIL
