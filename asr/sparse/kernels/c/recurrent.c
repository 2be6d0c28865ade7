/* One direction of a recurrent layer over a whole batch: projections, steps and gates.
 *
 * A block is at most ASR_PASS utterances, which share every pass over the recurrent weights. They
 * are sorted by length, so that those not yet at their end are always the first few:
 *
 *   frame        0 1 2 3 4 5 6
 *   utterance 0  x x x x x x x      frame 2: 3 columns at once
 *   utterance 1  x x x x x          frame 4: 2
 *   utterance 2  x x x              frame 6: 1
 *
 * Unlike the states, the inputs of all frames are known. They are projected AHEAD columns at a
 * time, in full passes of ASR_PASS columns, whichever utterance they belong to.
 */
#include <stdlib.h>
#if defined(_WIN32)
#include <malloc.h>
#endif
#include <string.h>

#include "sparse.h"

enum { GRU = 0, LSTM = 1, RNN_TANH = 2, RNN_RELU = 3 };

/* Must equal `_Cell` in asr/sparse/kernels/recurrent.py. */
typedef struct {
    int32_t kind, reverse, level, hidden;
    const asr_matrix *weight_ih, *weight_hh;
    const float *bias_ih, *bias_hh;
} asr_cell;

/* Columns that are projected ahead: enough for full passes, few enough to stay in the cache. */
#define AHEAD 32

typedef struct {
    const asr_cell *cell;
    asr_product_fn *project, *recur;
    asr_gates_fn *gates;
    int gate_rows;
    float *given, *recurrent; /* [AHEAD] and [ASR_PASS] columns of gate_rows */
    void *scratch;
    int64_t frames, out_ld;
    int count;                      /* utterances of the block, the longest first */
    int64_t lengths[ASR_PASS];
    const float *x[ASR_PASS], *h[ASR_PASS];
    float *c[ASR_PASS], *out[ASR_PASS];
} block;

/* Utterances that have a frame t. */
static int live(const block *b, int64_t t) {
    int n = 0;
    while (n < b->count && b->lengths[n] > t) n++;
    return n;
}

/* Projects the inputs of `steps` frames, in the order in which the steps need them. */
static void project(block *b, int64_t first, int steps, int direction) {
    const asr_matrix *m = b->cell->weight_ih;
    const float *from[ASR_PASS];
    float *to[ASR_PASS];
    int n = 0;
    for (int s = 0; s < steps; s++) {
        const int64_t t = first + direction * s;
        const int now = live(b, t);
        for (int j = 0; j < now; j++) {
            from[n] = b->x[j] + t * m->columns;
            to[n++] = b->given + (size_t)(s * b->count + j) * b->gate_rows;
            if (n == ASR_PASS) {
                b->project(m, from, n, b->cell->bias_ih, to, b->scratch);
                n = 0;
            }
        }
    }
    if (n) b->project(m, from, n, b->cell->bias_ih, to, b->scratch);
}

/* One frame of all live utterances; `given` are their projected inputs. */
static void step(block *b, int64_t t, const float *given) {
    const int now = live(b, t);
    const asr_cell *cell = b->cell;
    float *to[ASR_PASS];
    if (!now) return;
    for (int j = 0; j < now; j++) to[j] = b->recurrent + (size_t)j * b->gate_rows;
    b->recur(cell->weight_hh, b->h, now, cell->bias_hh, to, b->scratch);
    for (int j = 0; j < now; j++) {
        float *out = b->out[j] + t * b->out_ld;
        b->gates(cell->hidden, given + (size_t)j * b->gate_rows, to[j], b->h[j], b->c[j], out);
        b->h[j] = out;
    }
}

/* All frames of a block. */
static void run(block *b) {
    const int64_t longest = b->count ? b->lengths[0] : 0;
    const int ahead = AHEAD / b->count, direction = b->cell->reverse ? -1 : 1;
    for (int64_t done = 0; done < longest; done += ahead) {
        const int steps = (int)(longest - done < ahead ? longest - done : ahead);
        const int64_t first = b->cell->reverse ? longest - 1 - done : done;
        project(b, first, steps, direction);
        for (int s = 0; s < steps; s++)
            step(b, first + direction * s, b->given + (size_t)s * b->count * b->gate_rows);
    }
}

/* Fills a block with `count` utterances of the batch from `first` on, and runs it. */
static void run_block(block *b, int64_t first, int count, const float *x, const int64_t *lengths,
                      float *h, float *c, float *out) {
    const int hidden = b->cell->hidden;
    int64_t order[ASR_PASS];
    b->count = count;
    for (int j = 0; j < count; j++) { /* insertion sort, the longest first */
        int k = j;
        for (; k > 0 && lengths[order[k - 1]] < lengths[first + j]; k--) order[k] = order[k - 1];
        order[k] = first + j;
    }
    for (int j = 0; j < count; j++) {
        const int64_t u = order[j];
        b->lengths[j] = lengths[u];
        b->x[j] = x + u * b->frames * b->cell->weight_ih->columns;
        b->h[j] = h + u * hidden;
        b->c[j] = c ? c + u * hidden : NULL;
        b->out[j] = out + u * b->frames * b->out_ld;
        for (int64_t t = lengths[u]; t < b->frames; t++)
            memset(b->out[j] + t * b->out_ld, 0, sizeof(float) * hidden);
    }
    run(b);
    for (int j = 0; j < count; j++)
        if (b->lengths[j]) memcpy(h + order[j] * hidden, b->h[j], sizeof(float) * hidden);
}

static void *aligned(size_t bytes) {
#if defined(_WIN32)
    return _aligned_malloc(bytes + 64, 64);
#else
    void *p = NULL;
    return posix_memalign(&p, 64, bytes + 64) ? NULL : p;
#endif
}

static void release(void *p) {
#if defined(_WIN32)
    _aligned_free(p);
#else
    free(p);
#endif
}

/* x (batch, frames, inputs); h, and c of an LSTM, (batch, hidden): the state before the first step,
 * overwritten by that after each utterance's last; out (batch, frames, hidden), out_ld floats from
 * frame to frame. Returns 0, 1 if this build has no kernel for a layout, 2 without memory. */
ASR_EXPORT int32_t asr_recurrent(const asr_cell *cell, int64_t batch, int64_t frames,
                                 const float *x, const int64_t *lengths, float *h, float *c,
                                 float *out, int64_t out_ld) {
    static const int gates[] = {3, 4, 1, 1};
    const asr_gates *table = asr_gates_of(cell->level);
    asr_gates_fn *const functions[] = {table->gru, table->lstm, table->rnn_tanh, table->rnn_relu};
    const size_t one = asr_scratch_of(cell->weight_ih), two = asr_scratch_of(cell->weight_hh);
    block b = {.cell = cell, .frames = frames, .out_ld = out_ld};
    b.gates = functions[cell->kind];
    b.gate_rows = gates[cell->kind] * cell->hidden;
    b.project = asr_product_of(cell->weight_ih);
    b.recur = asr_product_of(cell->weight_hh);
    if (!b.project || !b.recur) return 1;
    b.given = aligned(sizeof(float) * AHEAD * (size_t)b.gate_rows);
    b.recurrent = aligned(sizeof(float) * ASR_PASS * (size_t)b.gate_rows);
    b.scratch = aligned(one > two ? one : two);
    const int enough = b.given && b.recurrent && b.scratch;
    for (int64_t first = 0; enough && first < batch;) {
        const int64_t passes = (batch - first + ASR_PASS - 1) / ASR_PASS;
        const int count = (int)((batch - first + passes - 1) / passes);
        run_block(&b, first, count, x, lengths, h, c, out);
        first += count;
    }
    release(b.given);
    release(b.recurrent);
    release(b.scratch);
    return enough ? 0 : 2;
}
