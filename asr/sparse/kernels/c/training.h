/* A recurrent layer with gradients, in the vectors of one instruction set; training.c includes this
 * once for each. */

/* Vectors of columns that are computed together: four gates of them are kept in registers. */
#if VECTORS == AVX2
#define MOST 2
#else
#define MOST 4
#endif

/* sum += row `row` of m, times x. Few vectors wait for their own sums, so they get two of each. */
TARGET ASR_INLINE void NAME(add_row)(const asr_rows *m, int row, const float *x, int width,
                                     int count, VECTOR *sum) {
    int e = m->starts[row];
    const int end = m->starts[row + 1];
    if (count <= 2) {
        VECTOR other[2] = {SET(0.0f), SET(0.0f)};
        for (; e + 1 < end; e += 2) {
            const VECTOR w = SET(m->values[e]), u = SET(m->values[e + 1]);
            const float *from = x + (size_t)m->index[e] * width;
            const float *next = x + (size_t)m->index[e + 1] * width;
            for (int v = 0; v < count; v++) {
                sum[v] = MADD(w, LOAD_ALL(from + v * LANES), sum[v]);
                other[v] = MADD(u, LOAD_ALL(next + v * LANES), other[v]);
            }
        }
        for (int v = 0; v < count; v++) sum[v] = ADD(sum[v], other[v]);
    }
    for (; e < end; e++) {
        const VECTOR w = SET(m->values[e]);
        const float *from = x + (size_t)m->index[e] * width;
        for (int v = 0; v < count; v++) sum[v] = MADD(w, LOAD_ALL(from + v * LANES), sum[v]);
    }
}

/* One gate of one unit: its biases, and the products of the input and of the state. */
TARGET ASR_INLINE void NAME(gate)(const asr_training *p, int row, const float *x, const float *h,
                                  int count, VECTOR *sum) {
    for (int v = 0; v < count; v++) sum[v] = SET(p->bias_ih[row] + p->bias_hh[row]);
    NAME(add_row)(&p->ih, row, x, p->width, count, sum);
    NAME(add_row)(&p->hh, row, h, p->width, count, sum);
}

/* The step of a GRU for `count` vectors of columns. */
TARGET ASR_INLINE void NAME(gru_step)(const asr_training *p, const float *x, const float *h,
                                      float *next, float *saved, int count) {
    const size_t part = (size_t)p->hidden * p->width;
    for (int i = 0; i < p->hidden; i++) {
        VECTOR r[MOST], z[MOST], a[MOST], k[MOST];
        const int row = 2 * p->hidden + i;
        NAME(gate)(p, i, x, h, count, r);
        NAME(gate)(p, p->hidden + i, x, h, count, z);
        for (int v = 0; v < count; v++) a[v] = SET(p->bias_ih[row]), k[v] = SET(p->bias_hh[row]);
        NAME(add_row)(&p->ih, row, x, p->width, count, a);
        NAME(add_row)(&p->hh, row, h, p->width, count, k);
        for (int v = 0; v < count; v++) {
            const size_t at = (size_t)i * p->width + v * LANES;
            const VECTOR reset = NAME(sigmoid)(r[v]), update = NAME(sigmoid)(z[v]);
            const VECTOR n = NAME(tangent)(MADD(reset, k[v], a[v]));
            STORE_ALL(saved + at, reset);
            STORE_ALL(saved + part + at, update);
            STORE_ALL(saved + 2 * part + at, n);
            STORE_ALL(saved + 3 * part + at, k[v]);
            STORE_ALL(next + at, MADD(update, SUB(LOAD_ALL(h + at), n), n));
        }
    }
}

/* The step of an RNN. */
TARGET ASR_INLINE void NAME(rnn_step)(const asr_training *p, const float *x, const float *h,
                                      float *next, int count) {
    for (int i = 0; i < p->hidden; i++) {
        VECTOR sum[MOST];
        NAME(gate)(p, i, x, h, count, sum);
        for (int v = 0; v < count; v++)
            STORE_ALL(next + (size_t)i * p->width + v * LANES,
                      p->kind == RNN_RELU ? MAXIMUM(SET(0.0f), sum[v]) : NAME(tangent)(sum[v]));
    }
}

TARGET ASR_INLINE void NAME(step)(const asr_training *p, const float *x, const float *h,
                                  float *next, float *saved, int count) {
    if (p->kind == GRU)
        NAME(gru_step)(p, x, h, next, saved, count);
    else
        NAME(rnn_step)(p, x, h, next, count);
}

TARGET static void NAME(forward)(const asr_training *p, const float *x, float *states,
                                 float *saved) {
    const size_t part = (size_t)p->hidden * p->width, given = (size_t)p->inputs * p->width;
    for (int64_t t = 0; t < p->frames; t++, x += given, states += part, saved += p->parts * part)
        for (int c = 0; c < p->width;) {
            const int left = (p->width - c) / LANES, count = left < MOST ? left : MOST;
            float *next = states + part + c;
            if (count == 1) NAME(step)(p, x + c, states + c, next, saved + c, 1);
            else if (count == 2) NAME(step)(p, x + c, states + c, next, saved + c, 2);
#if MOST == 4
            else if (count == 3) NAME(step)(p, x + c, states + c, next, saved + c, 3);
            else NAME(step)(p, x + c, states + c, next, saved + c, 4);
#endif
            c += count * LANES;
        }
}

/* From the gradient of the state after a step to those of the gates before their functions, which
 * take the place of `saved`; `carry` becomes what goes past the gates to the state before. */
TARGET static void NAME(gru_gates)(const asr_training *p, const float *grad, const float *h,
                                   float *saved, float *carry) {
    const size_t part = (size_t)p->hidden * p->width;
    const VECTOR one = SET(1.0f);
    for (size_t i = 0; i < part; i += LANES) {
        const VECTOR r = LOAD_ALL(saved + i), z = LOAD_ALL(saved + part + i);
        const VECTOR n = LOAD_ALL(saved + 2 * part + i), k = LOAD_ALL(saved + 3 * part + i);
        const VECTOR dh = ADD(LOAD_ALL(grad + i), LOAD_ALL(carry + i));
        const VECTOR d_n = MUL(MUL(dh, SUB(one, z)), SUB(one, MUL(n, n)));
        const VECTOR d_z = MUL(MUL(dh, SUB(LOAD_ALL(h + i), n)), MUL(z, SUB(one, z)));
        const VECTOR d_k = MUL(d_n, r);
        STORE_ALL(saved + i, MUL(MUL(d_k, k), SUB(one, r)));
        STORE_ALL(saved + part + i, d_z);
        STORE_ALL(saved + 2 * part + i, d_n);
        STORE_ALL(saved + 3 * part + i, d_k);
        STORE_ALL(carry + i, MUL(dh, z));
    }
}

/* The same of an RNN, whose derivative follows from the state after the step. */
TARGET static void NAME(rnn_gates)(const asr_training *p, const float *grad, const float *after,
                                   float *saved, float *carry) {
    const size_t part = (size_t)p->hidden * p->width;
    for (size_t i = 0; i < part; i += LANES) {
        const VECTOR y = LOAD_ALL(after + i), dh = ADD(LOAD_ALL(grad + i), LOAD_ALL(carry + i));
        const VECTOR slope = p->kind == RNN_RELU ? NAME(positive)(y)
                                                 : SUB(SET(1.0f), MUL(y, y));
        STORE_ALL(saved + i, MUL(slope, dh));
        STORE_ALL(carry + i, SET(0.0f));
    }
}

/* out (rows of m, width) = m d, plus what is there if `add`. */
TARGET ASR_INLINE void NAME(multiply)(const asr_rows *m, int rows, const float *d, int width,
                                      float *out, int add, int count) {
    for (int j = 0; j < rows; j++) {
        VECTOR sum[MOST];
        float *to = out + (size_t)j * width;
        for (int v = 0; v < count; v++) sum[v] = add ? LOAD_ALL(to + v * LANES) : SET(0.0f);
        NAME(add_row)(m, j, d, width, count, sum);
        for (int v = 0; v < count; v++) STORE_ALL(to + v * LANES, sum[v]);
    }
}

TARGET static void NAME(product)(const asr_rows *m, int rows, const float *d, int width,
                                 float *out, int add) {
    for (int c = 0; c < width;) {
        const int left = (width - c) / LANES, count = left < MOST ? left : MOST;
        if (count == 1) NAME(multiply)(m, rows, d + c, width, out + c, add, 1);
        else if (count == 2) NAME(multiply)(m, rows, d + c, width, out + c, add, 2);
#if MOST == 4
        else if (count == 3) NAME(multiply)(m, rows, d + c, width, out + c, add, 3);
        else NAME(multiply)(m, rows, d + c, width, out + c, add, 4);
#endif
        c += count * LANES;
    }
}

/* Adds the gradients of the weights that are there, and of the bias, over `steps` frames.
 *
 * `d` and `x` point to the first of them; x has `columns` rows a frame. Rows of `beside` get the
 * numbers of all frames side by side, so that a weight's gradient is one product of two rows. Gates
 * from 2 on are `skip` parts further in d (see training.c). */
TARGET static void NAME(weights)(const asr_training *p, const asr_rows *m, const float *d, int skip,
                                 const float *x, int columns, int steps, float *beside, float *grad,
                                 float *grad_bias) {
    const int rows = p->gates * p->hidden, width = p->width, size = steps * width;
    const size_t d_step = (size_t)p->parts * p->hidden * width, bytes = sizeof(float) * width;
    float row_of_d[SPAN > WIDEST ? SPAN : WIDEST];
    for (int s = 0; s < steps; s++)
        for (int j = 0; j < columns; j++)
            memcpy(beside + (size_t)j * size + s * width, x + ((size_t)s * columns + j) * width,
                   bytes);
    for (int row = 0; row < rows; row++) {
        const int place = row >= 2 * p->hidden ? row + skip * p->hidden : row;
        VECTOR total = SET(0.0f);
        for (int s = 0; s < steps; s++)
            memcpy(row_of_d + s * width, d + s * d_step + (size_t)place * width, bytes);
        for (int i = 0; i < size; i += LANES) total = ADD(total, LOAD_ALL(row_of_d + i));
        grad_bias[row] += TOTAL(total);
        for (int e = m->starts[row]; e < m->starts[row + 1]; e++) {
            const float *with = beside + (size_t)m->index[e] * size;
            VECTOR sum[4] = {SET(0.0f), SET(0.0f), SET(0.0f), SET(0.0f)};
            int i = 0;
            for (; i + 3 * LANES < size; i += 4 * LANES)
                for (int v = 0; v < 4; v++) {
                    const int at = i + v * LANES;
                    sum[v] = MADD(LOAD_ALL(row_of_d + at), LOAD_ALL(with + at), sum[v]);
                }
            for (; i < size; i += LANES)
                sum[0] = MADD(LOAD_ALL(row_of_d + i), LOAD_ALL(with + i), sum[0]);
            grad[e] += TOTAL(ADD(ADD(sum[0], sum[1]), ADD(sum[2], sum[3])));
        }
    }
}

TARGET static void NAME(backward)(const asr_training *p, const float *x, const float *states,
                                  float *saved, const float *grad, float *carry, float *grad_x,
                                  float *beside) {
    const size_t part = (size_t)p->hidden * p->width, given = (size_t)p->inputs * p->width;
    const size_t all = p->parts * part;
    for (int64_t t = p->frames - 1; t >= 0; t--) {
        float *d = saved + t * all;
        if (p->kind == GRU)
            NAME(gru_gates)(p, grad + t * part, states + t * part, d, carry);
        else
            NAME(rnn_gates)(p, grad + t * part, states + (t + 1) * part, d, carry);
        if (t) NAME(product)(&p->hh_t, p->hidden, d, p->width, carry, 1);
        NAME(product)(&p->ih_t, p->inputs, d, p->width, grad_x + t * given, 0);
    }
    const int span = asr_training_span(p->width) / p->width;
    for (int64_t t = 0; t < p->frames; t += span) {
        const int steps = (int)(p->frames - t < span ? p->frames - t : span);
        const float *d = saved + t * all;
        NAME(weights)(p, &p->ih, d, 0, x + t * given, p->inputs, steps, beside, p->grad_ih,
                      p->grad_bias_ih);
        NAME(weights)(p, &p->hh, d, 1, states + t * part, p->hidden, steps, beside, p->grad_hh,
                      p->grad_bias_hh);
    }
}

#undef MOST
