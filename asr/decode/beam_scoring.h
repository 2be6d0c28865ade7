/* Scores of prefixes beside the network's: the same steps in the same order as scoring.py,
 * phrases.py and lm/model.py, so that both give the same numbers. Part of beam.c.
 *
 * asr/decode/native_beam.py repeats the structures LanguageModel, Phrases and Settings.
 */
#ifndef ASR_BEAM_SCORING_H
#define ASR_BEAM_SCORING_H

#include <stdint.h>

enum { BLANK = 0, SPACE = 0x20, ROOT = 0, OUTSIDE = 1, NONE = -1 };
static const uint64_t HASH_START = 0xCBF29CE484222325u, HASH_FACTOR = 0x100000001B3u;

typedef struct { /* see lm/model.py */
    const uint32_t *first;
    const float *backoffs;
    const uint32_t *lowers, *words;
    const float *logs;
    const uint32_t *nexts;
    const uint64_t *hashes;
    const uint32_t *hash_words;
    const uint64_t *prefixes;
    const float *prefix_logs;
    uint32_t size, start, eos, unknown, prefix_count;
} LanguageModel;

typedef struct { /* see phrases.py */
    const int32_t *keys, *targets;
    const double *values, *finals;
    const int32_t *fails;
    int32_t edges;
} Phrases;

typedef struct {
    const int32_t *spelling_starts; /* token_count + 1: where the bytes of each token begin */
    const uint8_t *spellings;       /* bytes of all tokens, one after the other */
    const uint8_t *usable;          /* 0: the token writes nothing and is never tried */
    const LanguageModel *lm;        /* may be null */
    const Phrases *phrases;         /* may be null */
    double beam_threshold, token_threshold, lm_weight, word_bonus, unknown_score;
    int32_t token_count, beam, space; /* space: the token that writes a space only, or BLANK */
} Settings;

typedef struct { /* see scoring.py */
    uint64_t word_hash;
    double lm_score, words_score, pending, phrase_score, total;
    uint32_t lm_state;
    int32_t phrase, in_word, unknown;
} PrefixState;

/* --- language model and phrases --- */

/* Index of a hash among sorted ones; `count` if it is not there. */
static uint32_t find_hash(const uint64_t *hashes, uint32_t count, uint64_t hash)
{
    uint32_t low = 0, high = count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (hashes[middle] < hash)
            low = middle + 1;
        else
            high = middle;
    }
    return low < count && hashes[low] == hash ? low : count;
}

/* Natural log of P(word | *state), backing off as needed; *state becomes the state after it. */
static double lm_score(const LanguageModel *lm, uint32_t *state, uint32_t word)
{
    double total = 0.0;
    uint32_t at = *state;
    while (at) {
        uint32_t low = lm->first[at], end = lm->first[at + 1], high = end;
        while (low < high) {
            uint32_t middle = low + (high - low) / 2;
            if (lm->words[middle] < word)
                low = middle + 1;
            else
                high = middle;
        }
        if (low < end && lm->words[low] == word) {
            *state = lm->nexts[low];
            return total + lm->logs[low];
        }
        total += lm->backoffs[at];
        at = lm->lowers[at];
    }
    *state = lm->nexts[word];
    return total + lm->logs[word];
}

/* Bonus that becomes final with `byte`; *node becomes the node after it. */
static double phrase_step(const Phrases *phrases, int32_t *node, int32_t byte)
{
    double final = 0.0;
    for (;;) {
        int32_t key = 256 * *node + byte, low = 0, high = phrases->edges;
        while (low < high) {
            int32_t middle = low + (high - low) / 2;
            if (phrases->keys[middle] < key)
                low = middle + 1;
            else
                high = middle;
        }
        if (low < phrases->edges && phrases->keys[low] == key) {
            *node = phrases->targets[low];
            return final;
        }
        if (*node == ROOT || *node == OUTSIDE) {
            *node = byte == SPACE ? ROOT : OUTSIDE;
            return final;
        }
        final += phrases->finals[*node];
        *node = phrases->fails[*node];
    }
}

/* --- states of prefixes --- */

/* Whether all letters of the last word, as far as it goes, are those of a phrase. */
static int in_phrase(const Settings *settings, int32_t node)
{
    return settings->phrases && node != ROOT && node != OUTSIDE;
}

static void end_word(const Settings *settings, PrefixState *state)
{
    double gain = settings->word_bonus;
    if (settings->phrases)
        state->phrase_score += phrase_step(settings->phrases, &state->phrase, SPACE);
    if (settings->lm) {
        const LanguageModel *lm = settings->lm;
        uint32_t word = lm->unknown;
        if (!state->unknown) {
            uint32_t place = find_hash(lm->hashes, lm->size, state->word_hash);
            if (place < lm->size)
                word = lm->hash_words[place];
        }
        double log = lm_score(lm, &state->lm_state, word);
        state->lm_score += log;
        gain += settings->lm_weight * log;
        if (word == lm->unknown && !in_phrase(settings, state->phrase))
            gain += settings->unknown_score;
    }
    state->words_score += gain;
    state->pending = 0.0;
    state->word_hash = HASH_START;
    state->in_word = state->unknown = 0;
}

/* Score of the best word that begins like the last one, until the real score is known. */
static void look_ahead(const Settings *settings, PrefixState *state)
{
    const LanguageModel *lm = settings->lm;
    uint32_t place = find_hash(lm->prefixes, lm->prefix_count, state->word_hash);
    if (place < lm->prefix_count) {
        state->pending = settings->lm_weight * lm->prefix_logs[place];
        return;
    }
    uint32_t lm_state = state->lm_state;
    double log = lm_score(lm, &lm_state, lm->unknown);
    state->unknown = 1;
    state->pending = settings->lm_weight * log;
}

/* State of a prefix after one more token. `ended` is the state after the prefix's last word has
 * ended: computed once and shared by all tokens, as many begin with a space. */
static PrefixState extend(const Settings *settings, PrefixState state, PrefixState *ended,
                          int32_t *ended_known, int32_t token)
{
    int32_t first = settings->spelling_starts[token], end = settings->spelling_starts[token + 1];
    for (int32_t i = first; i < end; i++) {
        uint8_t byte = settings->spellings[i];
        if (byte != SPACE) {
            state.word_hash = (state.word_hash ^ byte) * HASH_FACTOR;
            state.in_word = 1;
            if (settings->phrases)
                state.phrase_score += phrase_step(settings->phrases, &state.phrase, byte);
        } else if (state.in_word) {
            if (i > first) {
                end_word(settings, &state);
                continue;
            }
            if (!*ended_known) {
                end_word(settings, &state);
                *ended = state;
                *ended_known = 1;
            }
            state = *ended;
        }
    }
    if (settings->lm && state.in_word && !state.unknown)
        look_ahead(settings, &state);
    double value = settings->phrases ? settings->phrases->values[state.phrase] : 0.0;
    double pending = state.pending;
    if (state.unknown && !in_phrase(settings, state.phrase))
        pending += settings->unknown_score;
    state.total = (state.words_score + pending) + (state.phrase_score + value);
    return state;
}

/* State at the end of the utterance: the last word and the end of the sentence are scored. */
static PrefixState finish(const Settings *settings, PrefixState state)
{
    if (state.in_word)
        end_word(settings, &state);
    if (settings->lm) {
        double log = lm_score(settings->lm, &state.lm_state, settings->lm->eos);
        state.lm_score += log;
        state.words_score += settings->lm_weight * log;
    }
    if (settings->phrases) {
        double final = 0.0;
        int32_t node = state.phrase;
        while (node != ROOT && node != OUTSIDE) {
            final += settings->phrases->finals[node];
            node = settings->phrases->fails[node];
        }
        state.phrase_score += final;
    }
    state.total = state.words_score + state.phrase_score;
    return state;
}

#endif
