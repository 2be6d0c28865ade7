/* The state of a search: a tree of prefixes, and the spikes of their best alignments. Part of
 * beam.c.
 */
#ifndef ASR_BEAM_TREE_H
#define ASR_BEAM_TREE_H

#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#include "beam_scoring.h"

/* Alignments of a prefix up to a frame, see reference.py. The spike of a new token becomes a record
 * only when its prefix has survived pruning: most candidates do not. */
typedef struct {
    double blank, label, best_blank, best_label;
    int32_t spikes_blank, spikes_label; /* indices of records, or NONE */
    int32_t new_spike, new_before;      /* new_spike: spikes_label is to be made, at this frame */
    float new_peak;
} Alignments;

typedef struct { /* spike of a token, and the index of the one before it */
    int32_t before, frame;
    float peak;
} Record;

typedef struct {
    PrefixState state;
    Alignments now, next;
    int32_t parent, token, child, sibling; /* child: the newest one; sibling: the one before it */
    int32_t depth;                         /* tokens, those before the root too */
    int32_t active, ended_known;           /* active: in the beam */
    PrefixState ended;                     /* state after the current word has ended */
} Prefix;

typedef struct {
    double score;
    int32_t order, prefix, token; /* order breaks ties; token: BLANK if the prefix stays */
    Alignments fresh;
    PrefixState state;
} Candidate;

typedef struct {
    const Settings *settings;
    Prefix *prefixes;
    Record *records;
    Candidate *candidates;
    int32_t *kept, *allowed; /* prefixes in the beam; tokens to try at this frame */
    size_t prefix_count, prefix_room, record_count, record_room, candidate_count, candidate_room;
    size_t tidy_prefixes, tidy_records; /* counts from which what nobody needs is removed */
    int32_t kept_count, root, frame;    /* root: what all prefixes in the beam begin with */
} Search;

static double log_add(double a, double b)
{
    if (a < b) {
        double c = a;
        a = b;
        b = c;
    }
    return b == -INFINITY ? a : a + log1p(exp(b - a));
}

/* Make room for `needed` elements of `size` bytes; 0: out of memory. */
static int grow(void **array, size_t *room, size_t needed, size_t size)
{
    if (needed <= *room)
        return 1;
    size_t larger_room = *room ? *room : 256;
    while (larger_room < needed)
        larger_room *= 2;
    void *larger = realloc(*array, larger_room * size);
    if (!larger)
        return 0;
    *array = larger;
    *room = larger_room;
    return 1;
}

/* Score and spikes of the best alignment. */
static int32_t best_of(const Alignments *now, double *best)
{
    if (now->best_blank >= now->best_label) {
        *best = now->best_blank;
        return now->spikes_blank;
    }
    *best = now->best_label;
    return now->spikes_label;
}

#endif
