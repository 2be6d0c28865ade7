/* The recurrent cells in the vectors of one instruction set; gates.c includes this once for each. */

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
