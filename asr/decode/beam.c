/* CTC prefix beam search: the same steps in the same order as reference.py, so that both give the
 * same numbers.
 *
 * Plain C99 without Python's interface; asr/decode/native_beam.py loads it with ctypes. All state
 * is in a Search: threads may run one each at the same time. Compile without contraction of a * b
 * + c, or results differ in the last bit.
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "beam_scoring.h"
#include "beam_tree.h"

#ifdef _WIN32
#define EXPORT __declspec(dllexport)
#else
#define EXPORT __attribute__((visibility("default")))
#endif

static const Alignments NOTHING = {
    -INFINITY, -INFINITY, -INFINITY, -INFINITY, NONE, NONE, 0, NONE, 0.0f};

/* Alignments that add a blank, or continue the last token. */
static void stay(Search *search, Prefix *prefix, const float *row, double limit)
{
    Alignments *now = &prefix->now, *next = &prefix->next;
    double best;
    *next = NOTHING;
    next->spikes_blank = best_of(now, &best);
    next->blank = log_add(now->blank, now->label) + row[BLANK];
    next->best_blank = best + row[BLANK];
    if (prefix->token == BLANK || row[prefix->token] < limit)
        return;
    float log = row[prefix->token];
    next->label = now->label + log;
    next->best_label = now->best_label + log;
    next->spikes_label = now->spikes_label;
    if (now->spikes_label != NONE && log > search->records[now->spikes_label].peak) {
        next->new_spike = 1;
        next->new_before = search->records[now->spikes_label].before;
        next->new_peak = log;
    }
}

static int32_t find_child(const Search *search, int32_t prefix, int32_t token)
{
    int32_t child = search->prefixes[prefix].child;
    while (child != NONE && search->prefixes[child].token != token)
        child = search->prefixes[child].sibling;
    return child;
}

/* Alignments that add a token: to a prefix in the beam, or as a new candidate. 0: out of memory. */
static int extend_all(Search *search, int32_t index, const float *row, int32_t allowed)
{
    Prefix *prefix = &search->prefixes[index];
    double best, total = log_add(prefix->now.blank, prefix->now.label);
    int32_t spikes = best_of(&prefix->now, &best);
    for (int32_t i = 0; i < allowed; i++) {
        int32_t token = search->allowed[i], before = spikes;
        float log = row[token];
        double gain = total + log, best_gain = best + log;
        if (token == prefix->token) {
            /* Only a blank in between makes it a second token. */
            gain = prefix->now.blank + log;
            best_gain = prefix->now.best_blank + log;
            before = prefix->now.spikes_blank;
        }
        if (gain == -INFINITY)
            continue;
        if (token == search->settings->space && token == prefix->token) {
            /* One more space changes no text: another alignment of the same prefix. */
            prefix->next.label = log_add(prefix->next.label, gain);
            if (best_gain > prefix->next.best_label) {
                prefix->next.best_label = best_gain;
                prefix->next.spikes_label = before;
                prefix->next.new_spike = 0;
            }
            continue;
        }
        int32_t child = find_child(search, index, token);
        Alignments *target;
        if (child != NONE && search->prefixes[child].active) {
            target = &search->prefixes[child].next;
            target->label = log_add(target->label, gain);
            if (!(best_gain > target->best_label))
                continue;
        } else {
            if (!grow((void **)&search->candidates, &search->candidate_room,
                      search->candidate_count + 1, sizeof(Candidate)))
                return 0;
            Candidate *candidate = &search->candidates[search->candidate_count];
            candidate->order = (int32_t)search->candidate_count++;
            candidate->prefix = index;
            candidate->token = token;
            candidate->state = extend(search->settings, prefix->state, &prefix->ended,
                                      &prefix->ended_known, token);
            candidate->fresh = NOTHING;
            candidate->fresh.label = gain;
            candidate->score = gain + candidate->state.total;
            target = &candidate->fresh;
        }
        target->best_label = best_gain;
        target->new_spike = 1;
        target->new_before = before;
        target->new_peak = log;
    }
    return 1;
}

static int by_score(const void *left, const void *right)
{
    const Candidate *a = left, *b = right;
    if (a->score != b->score)
        return a->score > b->score ? -1 : 1;
    return a->order < b->order ? -1 : 1;
}

/* The prefix of a candidate that is kept, new in the tree if need be; NONE: out of memory. */
static int32_t keep(Search *search, Candidate *candidate, int32_t frame)
{
    int32_t index = candidate->prefix;
    if (candidate->token != BLANK) {
        int32_t child = find_child(search, index, candidate->token);
        if (child == NONE) {
            if (!grow((void **)&search->prefixes, &search->prefix_room, search->prefix_count + 1,
                      sizeof(Prefix)))
                return NONE;
            child = (int32_t)search->prefix_count++;
            Prefix *made = &search->prefixes[child], *parent = &search->prefixes[index];
            memset(made, 0, sizeof(Prefix));
            made->state = candidate->state;
            made->parent = index;
            made->token = candidate->token;
            made->depth = parent->depth + 1;
            made->child = NONE;
            made->sibling = parent->child;
            parent->child = child;
        }
        index = child;
    }
    Alignments *now = &search->prefixes[index].now;
    *now = candidate->fresh;
    if (now->new_spike) {
        if (!grow((void **)&search->records, &search->record_room, search->record_count + 1,
                  sizeof(Record)))
            return NONE;
        Record *record = &search->records[search->record_count];
        record->before = now->new_before;
        record->frame = frame;
        record->peak = now->new_peak;
        now->spikes_label = (int32_t)search->record_count++;
        now->new_spike = 0;
    }
    search->prefixes[index].active = 1;
    return index;
}

/* Keep the best candidates as the beam of the next frame; 0: out of memory. */
static int prune(Search *search, int32_t frame)
{
    const Settings *settings = search->settings;
    double limit = -INFINITY;
    size_t likely = 0;
    for (size_t i = 0; i < search->candidate_count; i++)
        if (search->candidates[i].score > limit)
            limit = search->candidates[i].score;
    limit -= settings->beam_threshold;
    for (size_t i = 0; i < search->candidate_count; i++)
        if (search->candidates[i].score >= limit)
            search->candidates[likely++] = search->candidates[i];
    qsort(search->candidates, likely, sizeof(Candidate), by_score);
    for (int32_t i = 0; i < search->kept_count; i++)
        search->prefixes[search->kept[i]].active = 0;
    search->kept_count = 0;
    for (size_t i = 0; i < likely && search->kept_count < settings->beam; i++) {
        int32_t index = keep(search, &search->candidates[i], frame);
        if (index == NONE)
            return 0;
        search->kept[search->kept_count++] = index;
    }
    return 1;
}

/* One frame; 0: out of memory. */
static int step(Search *search, const float *row, int32_t frame)
{
    const Settings *settings = search->settings;
    double limit = row[0];
    int32_t allowed = 0;
    for (int32_t token = 1; token < settings->token_count; token++)
        if (row[token] > limit)
            limit = row[token];
    limit -= settings->token_threshold;
    for (int32_t token = 0; token < settings->token_count; token++)
        if (settings->usable[token] && row[token] >= limit)
            search->allowed[allowed++] = token;
    for (int32_t i = 0; i < search->kept_count; i++)
        stay(search, &search->prefixes[search->kept[i]], row, limit);
    /* The first kept_count candidates are the prefixes that stay: they come first among equals. */
    search->candidate_count = (size_t)search->kept_count;
    if (!grow((void **)&search->candidates, &search->candidate_room, search->candidate_count,
              sizeof(Candidate)))
        return 0;
    for (int32_t i = 0; i < search->kept_count; i++)
        if (!extend_all(search, search->kept[i], row, allowed))
            return 0;
    for (int32_t i = 0; i < search->kept_count; i++) {
        Prefix *prefix = &search->prefixes[search->kept[i]];
        Candidate *candidate = &search->candidates[i];
        candidate->score = log_add(prefix->next.blank, prefix->next.label) + prefix->state.total;
        candidate->order = i;
        candidate->prefix = search->kept[i];
        candidate->token = BLANK;
        candidate->fresh = prefix->next;
    }
    return prune(search, frame);
}

/* The empty prefix, which is like one that ends in a space: a space after it changes nothing. */
static int begin(Search *search)
{
    const Settings *settings = search->settings;
    search->kept = malloc((size_t)settings->beam * sizeof(int32_t));
    search->allowed = malloc((size_t)settings->token_count * sizeof(int32_t));
    if (!search->kept || !search->allowed ||
        !grow((void **)&search->prefixes, &search->prefix_room, 1, sizeof(Prefix)))
        return 0;
    Prefix *root = &search->prefixes[0];
    memset(root, 0, sizeof(Prefix));
    root->parent = root->child = root->sibling = NONE;
    root->token = settings->space;
    root->state.word_hash = HASH_START;
    root->state.lm_state = settings->lm ? settings->lm->start : 0;
    root->now = NOTHING;
    root->now.blank = root->now.best_blank = 0.0;
    root->active = 1;
    search->prefix_count = 1;
    search->kept[0] = 0;
    search->kept_count = 1;
    return 1;
}

/* How many tokens a prefix has behind the root. */
static int32_t tokens_of(const Search *search, int32_t index)
{
    return search->prefixes[index].depth - search->prefixes[search->root].depth;
}

/* Tokens of a prefix behind the root, and the frames of their spikes. */
static void write_tokens(const Search *search, int32_t index, int32_t *length, int32_t *tokens,
                         int32_t *frames)
{
    double best;
    int32_t count = tokens_of(search, index), spikes = best_of(&search->prefixes[index].now, &best);
    *length = count;
    for (int32_t at = index; count > 0; at = search->prefixes[at].parent) {
        count--;
        tokens[count] = search->prefixes[at].token;
        frames[count] = spikes == NONE ? 0 : search->records[spikes].frame;
        spikes = spikes == NONE ? NONE : search->records[spikes].before;
    }
}

/* Writes lengths (beam), scores (beam, 3: all, acoustic, language model), tokens and spikes (beam,
 * room) of all prefixes in the beam, their ends scored, behind the root; `room` is that of
 * asr_beam_room. Returns how many there are, the best first; -1: out of memory. */
EXPORT int32_t asr_beam_finish(Search *search, int32_t room, int32_t *lengths, double *scores,
                               int32_t *tokens, int32_t *spikes)
{
    int32_t count = search->kept_count;
    if (!grow((void **)&search->candidates, &search->candidate_room, (size_t)count,
              sizeof(Candidate)))
        return -1;
    for (int32_t i = 0; i < count; i++) {
        Prefix *prefix = &search->prefixes[search->kept[i]];
        Candidate *candidate = &search->candidates[i];
        candidate->state = finish(search->settings, prefix->state);
        candidate->order = i;
        candidate->prefix = search->kept[i];
        candidate->score = log_add(prefix->now.blank, prefix->now.label) + candidate->state.total;
    }
    qsort(search->candidates, (size_t)count, sizeof(Candidate), by_score);
    for (int32_t i = 0; i < count; i++) {
        const Candidate *candidate = &search->candidates[i];
        const Alignments *now = &search->prefixes[candidate->prefix].now;
        size_t place = (size_t)i * (size_t)room;
        scores[3 * i] = candidate->score;
        scores[3 * i + 1] = log_add(now->blank, now->label);
        scores[3 * i + 2] = candidate->state.lm_score;
        write_tokens(search, candidate->prefix, &lengths[i], tokens + place, spikes + place);
    }
    return count;
}

#include "beam_root.h"

EXPORT int32_t asr_native_version(void) { return 2; }

EXPORT void asr_beam_free(Search *search)
{
    free(search->prefixes);
    free(search->records);
    free(search->candidates);
    free(search->kept);
    free(search->allowed);
    free(search);
}

/* A search before its first frame, to be freed by asr_beam_free; `settings` must live as long.
 * NULL: out of memory. */
EXPORT Search *asr_beam_begin(const Settings *settings)
{
    Search *search = calloc(1, sizeof(Search));
    if (search) {
        search->settings = settings;
        search->tidy_prefixes = search->tidy_records = TIDY;
        if (begin(search))
            return search;
        asr_beam_free(search);
    }
    return NULL;
}

/* The next log_probs (frames, token_count), natural logs. 0: out of memory. */
EXPORT int32_t asr_beam_push(Search *search, const float *log_probs, int32_t frames)
{
    for (int32_t i = 0; i < frames; i++, search->frame++)
        if (!step(search, log_probs + (size_t)i * (size_t)search->settings->token_count,
                  search->frame))
            return 0;
    return 1;
}

/* The most tokens that a prefix in the beam has behind the root. */
EXPORT int32_t asr_beam_room(const Search *search)
{
    int32_t most = 0;
    for (int32_t i = 0; i < search->kept_count; i++) {
        int32_t count = tokens_of(search, search->kept[i]);
        most = count > most ? count : most;
    }
    return most;
}

/* Writes the tokens of the best prefix behind the root; returns how many. */
EXPORT int32_t asr_beam_best(const Search *search, int32_t *tokens)
{
    write_path(search, search->kept[0], tokens);
    return tokens_of(search, search->kept[0]);
}

/* Makes what all prefixes in the beam begin with the root, and writes its tokens behind the old
 * one; returns how many. Only prefixes that begin with the first `agreed` tokens of the best one
 * stay in the beam. -1: out of memory. */
EXPORT int32_t asr_beam_decide(Search *search, int32_t agreed, int32_t *tokens)
{
    agree(search, agreed);
    int32_t common = common_prefix(search), count = tokens_of(search, common);
    write_path(search, common, tokens);
    search->root = common;
    search->prefixes[common].parent = NONE;
    return tidy(search) ? count : -1;
}
