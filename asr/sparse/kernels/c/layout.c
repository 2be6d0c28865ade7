/* Layouts of the perm kernels: which word of which vector holds which element.
 *
 * A group is `lanes` rows. A vector has `slots` words for each of them, and its words may come from
 * two stretches of `width` columns, so that a row with few elements in one stretch can use its
 * words for the other. Drawn with 2 rows, 2 slots and a width of 4 (perm16 has 16, 2 and 32):
 *
 *           stretch 0   1         2            vector 0 reads 0 and 1   vector 1 reads 1 and 2
 *   row 0   a . . b     . . . .   . c . .      a b                      c -
 *   row 1   . d . .     . . e f   . . . .      e d                      f -
 *
 * The two stretches are chosen greedily: first the one, then its partner, that take most from the
 * rows with most elements left. At 90 % random zeros this leaves a fifth of the words empty, where
 * taking the stretches in order leaves two fifths; with banks it leaves none.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "sparse.h"

typedef struct {
    int lanes, slots, width, stretches;
    int run;         /* vectors that share one pair of stretches; 1 unless the pattern is bank */
    int pairs;       /* of stretches in each vector, with `slots` words of each lane for each pair */
    int done;        /* stretches of a banked group of which nothing is left */
    int banked;      /* the second stretch is always the neighbour of the first: s ^ 1 */
    float *left;     /* [lane][stretch]: elements without a word so far */
    int32_t *next;   /* [lane][stretch]: the first of them */
    float *gain;     /* [stretch] */
    float total[32]; /* [lane]: of `left` */
} packer;

/* The stretch that fills most words of the next vectors together with the stretch `with` (-1:
 * alone). A lane counts by the square of what it has left: the fullest row decides how many vectors
 * follow. */
static int best(packer *p, int with) {
    const int n = p->stretches;
    float *gain = p->gain;
    memset(gain, 0, sizeof(float) * n);
    for (int i = 0; i < p->lanes; i++) {
        const float *left = p->left + (size_t)i * n;
        const float weight = p->total[i] * p->total[i];
        const float other = with < 0 ? 0.0f : left[with];
        if (weight == 0.0f) continue;
        if (p->slots > 2) { /* what does not fit this vector wastes words of another one */
            const float most = (float)p->slots;
            for (int s = 0; s < n; s++) {
                const float both = left[s] + other;
                const float fits = both <= most ? both : 2.0f * most - both;
                gain[s] += weight * (fits > 1.0f || both == 0.0f ? fits : 1.0f);
            }
            continue;
        }
        if (p->run > 1) { /* words for `slots * run` elements of both stretches */
            const float most = (float)(p->slots * p->run);
            for (int s = 0; s < n; s++)
                gain[s] += weight * (left[s] + other < most ? left[s] + other : most);
            continue;
        }
        if (p->slots == 1) { /* one word, for the stretch with more */
            for (int s = 0; s < n; s++) gain[s] += weight * (left[s] > other ? left[s] : other);
            continue;
        }
        for (int s = 0; s < n; s++) { /* two words: the second from what then has more */
            const float most = left[s] > other ? left[s] : other;
            const float least = left[s] > other ? other : left[s];
            const float second = most - 1.0f > least ? most - 1.0f : least;
            gain[s] += weight * (most + (second > 0.0f ? second : 0.0f));
        }
    }
    int found = -1;
    for (int s = 0; s < n; s++)
        if (s != with && (found < 0 || gain[s] > gain[found])) found = s;
    return found < 0 ? with : found;
}

/* Counts the elements of one group: nothing has a word yet. */
static void begin(packer *p, const int32_t *rows, const int64_t *starts, const int32_t *columns) {
    const size_t n = p->stretches;
    memset(p->left, 0, sizeof(float) * n * p->lanes);
    p->done = 0;
    for (int i = 0; i < p->lanes; i++) {
        p->total[i] = 0.0f;
        if (rows[i] < 0) continue;
        for (int64_t k = starts[rows[i]]; k < starts[rows[i] + 1]; k++) {
            const size_t at = i * n + columns[k] / p->width;
            if (p->left[at] == 0.0f) p->next[at] = (int32_t)k;
            p->left[at] += 1.0f;
            p->total[i] += 1.0f;
        }
    }
}

/* The first bank, two stretches, from which a lane has something left. */
static int first(packer *p) {
    for (int s = p->done; s < p->stretches; p->done = s += 2)
        for (int i = 0; i < p->lanes; i++) {
            const float *left = p->left + (size_t)i * p->stretches + s;
            if (left[0] > 0.0f || (s + 1 < p->stretches && left[1] > 0.0f)) return s;
        }
    return 0;
}

/* The number of vectors of one group. `elements` [vector][pair][lane][slot] receives the element of
 * each word, -1: none, and `index` [run][pair][2] the stretches; both may be NULL, to count only. */
static int pack(packer *p, int32_t *elements, uint16_t *index) {
    const size_t n = p->stretches;
    for (int pair = 0;; pair++) {
        float any = 0.0f;
        for (int i = 0; i < p->lanes; i++) any += p->total[i];
        if (any == 0.0f && pair % p->pairs == 0) return pair / p->pairs * p->run;
        const int a = p->banked ? first(p) : best(p, -1);
        const int b = !p->banked ? best(p, a) : a + 1 < p->stretches ? a + 1 : a;
        if (index) {
            *index++ = (uint16_t)a;
            *index++ = (uint16_t)b;
        }
        for (int lane = 0; lane < p->lanes * p->run; lane++) {
            const int i = lane % p->lanes;
            for (int k = 0; k < p->slots; k++) {
                const size_t s = i * n + (p->left[i * n + a] >= p->left[i * n + b] ? a : b);
                int32_t element = -1;
                if (p->left[s] > 0.0f) {
                    element = p->next[s]++;
                    p->left[s] -= 1.0f;
                    p->total[i] -= 1.0f;
                }
                if (elements) *elements++ = element;
            }
        }
    }
}

/* Counts (`elements` NULL: only `group_starts` is written) or writes a layout. `order` is the row
 * of each lane of each group, -1: none. Returns the number of vectors, or -1 without memory. */
ASR_EXPORT int64_t asr_perm_layout(int32_t groups, int32_t columns, const int64_t *starts,
                                   const int32_t *element_columns, const int32_t *order,
                                   int32_t lanes, int32_t slots, int32_t width, int32_t run,
                                   int32_t pairs, int32_t banked, int32_t *group_starts,
                                   int32_t *elements, uint16_t *index) {
    const int stretches = columns > 0 ? (columns + width - 1) / width : 1;
    packer p = {.lanes = lanes, .slots = slots, .width = width, .stretches = stretches,
                .run = run, .pairs = pairs, .banked = banked};
    p.left = malloc(sizeof(float) * stretches * lanes);
    p.next = malloc(sizeof(int32_t) * stretches * lanes);
    p.gain = malloc(sizeof(float) * stretches);
    int64_t vectors = -1;
    if (p.left && p.next && p.gain) {
        vectors = 0;
        for (int g = 0; g < groups; g++) {
            begin(&p, order + (size_t)g * lanes, starts, element_columns);
            const int64_t before = vectors;
            vectors += pack(&p, elements ? elements + before * pairs * lanes * slots : NULL,
                            index ? index + 2 * (before / run) * pairs : NULL);
            if (!elements) group_starts[g] = (int32_t)before;
        }
        if (!elements) group_starts[groups] = (int32_t)vectors;
    }
    free(p.left);
    free(p.next);
    free(p.gain);
    return vectors;
}

/* Position of a column among the columns of its vector: first stretch, then second. */
static int place(int column, const uint16_t *index, int width) {
    return column / width == index[0] ? column % width : width + column % width;
}

/* Words of perm16, and the value of 1 in a word of each lane; see perm16.c. */
ASR_EXPORT void asr_perm16_words(int32_t groups, int32_t run, const int32_t *group_starts,
                                 const int32_t *elements, const uint16_t *index,
                                 const int32_t *columns, const float *values, int16_t *words,
                                 float *scales) {
    enum { LANES = 16, SLOTS = 2, WIDTH = 32, FLUSH = 16 };
    const int flush = FLUSH / run * run;
    for (int g = 0; g < groups; g++) {
        const int64_t from = group_starts[g], to = group_starts[g + 1];
        for (int i = 0; i < LANES; i++) {
            /* The scale of a row: no word exceeds 32000, and FLUSH vectors times inputs of at most
             * 4096 sum to less than 2^31 (523000 * 4096 < 2^31). */
            double most = 0, sum = 0, heaviest = 0;
            for (int64_t v = from; v < to; v++) {
                if ((v - from) % flush == 0) sum = 0;
                for (int k = 0; k < SLOTS; k++) {
                    const int32_t e = elements[(v * LANES + i) * SLOTS + k];
                    if (e < 0) continue;
                    const double w = fabs((double)values[e]);
                    sum += w;
                    if (w > most) most = w;
                    if (sum > heaviest) heaviest = sum;
                }
            }
            double scale = 0;
            if (most > 0) {
                scale = 32000.0 / most;
                if (scale > 523000.0 / heaviest) scale = 523000.0 / heaviest;
            }
            scales[g * LANES + i] = scale > 0 ? (float)(1.0 / scale) : 0.0f;
            for (int64_t v = from; v < to; v++)
                for (int k = 0; k < SLOTS; k++) {
                    const int64_t at = (v * LANES + i) * SLOTS + k;
                    const int32_t e = elements[at];
                    words[at] = 0;
                    if (e < 0 || scale == 0) continue;
                    const int c = place(columns[e], index + 2 * (v / run), WIDTH);
                    /* The position c adds 0 to 63 to the word; rounding what is left keeps the
                     * word within 32 of the weight. */
                    long q = lrint((values[e] * scale - c) / 64.0);
                    q = q < -512 ? -512 : q > 511 ? 511 : q;
                    words[at] = (int16_t)(q * 64 + c);
                }
        }
    }
}

/* Vectors of perm8, and for each lane the value of 1 in a word and the sum of its words; see
 * perm8.c. `elements` [vector][pair][lane][slot], `index` [vector][pair][2]. */
ASR_EXPORT void asr_perm8_words(int32_t groups, int32_t lanes, int32_t pairs,
                                const int32_t *group_starts, const int32_t *elements,
                                const uint16_t *index, const int32_t *columns, const float *values,
                                int8_t *words, float *scales, int32_t *sums) {
    enum { ROWS = 8, SLOTS = 4, WIDTH = 16, SECOND = 0x80 };
    const int slots = SLOTS / pairs;
    for (int g = 0; g < groups; g++)
        for (int i = 0; i < lanes; i++) {
            const int64_t from = (int64_t)group_starts[g] * pairs;
            const int64_t to = (int64_t)group_starts[g + 1] * pairs;
            double most = 0;
            for (int64_t h = from; h < to; h++)
                for (int k = 0; k < slots; k++) {
                    const int32_t e = elements[(h * lanes + i) * slots + k];
                    if (e >= 0 && fabs((double)values[e]) > most) most = fabs((double)values[e]);
                }
            scales[g * lanes + i] = (float)(most / 127.0);
            sums[g * lanes + i] = 0;
            for (int64_t h = from; h < to; h++)
                for (int k = 0; k < slots; k++) {
                    const int32_t e = elements[(h * lanes + i) * slots + k];
                    const int64_t vector = (h / pairs) * (lanes / ROWS) + i / ROWS;
                    int8_t *word = words + 2 * ROWS * SLOTS * vector + SLOTS * (i % ROWS) +
                                   slots * (h % pairs) + k;
                    word[0] = word[ROWS * SLOTS] = 0;
                    if (e < 0) continue;
                    const int c = place(columns[e], index + 2 * h, WIDTH);
                    word[0] = (int8_t)lrint(values[e] * (127.0 / most));
                    word[ROWS * SLOTS] = (int8_t)(c < WIDTH ? c : (c - WIDTH) | SECOND);
                    sums[g * lanes + i] += word[0];
                }
        }
}

/* Words of perm32: fp32 numbers whose lowest 5 (AVX2: 4) bits are the position of the column; of
 * these the nearest to the weight. */
ASR_EXPORT void asr_perm32_words(int64_t vectors, int32_t run, int32_t lanes, int32_t width,
                                 const int32_t *elements, const uint16_t *index,
                                 const int32_t *columns, const float *values, uint32_t *words) {
    const uint32_t size = 2 * (uint32_t)width; /* 32 or 16 */
    for (int64_t v = 0; v < vectors; v++)
        for (int i = 0; i < lanes; i++) {
            const int32_t e = elements[v * lanes + i];
            words[v * lanes + i] = 0;
            if (e < 0) continue;
            uint32_t raw;
            memcpy(&raw, &values[e], 4);
            const uint32_t c = (uint32_t)place(columns[e], index + 2 * (v / run), width);
            const uint32_t sign = raw & 0x80000000u, size_of = raw & 0x7fffffffu;
            uint32_t word = (size_of & ~(size - 1)) | c;
            /* Magnitudes that end in c are `size` apart: the nearest of three. */
            if (word > size_of && word - size_of > size / 2 && word >= size) word -= size;
            if (word < size_of && size_of - word > size / 2 && word + size < 0x7f800000u)
                word += size;
            words[v * lanes + i] = sign | word;
        }
}
