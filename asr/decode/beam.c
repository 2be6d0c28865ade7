/* CTC prefix beam search: the same steps, in the same order, as asr/decode/search.py with
 * asr/decode/reading.py, phrases.py and lm.py, so that both give the same numbers.
 *
 * Plain C99 without Python's interface; loaded with ctypes by asr/decode/compiled.py, which holds
 * the twins of the structures below. A call keeps no state: threads may call it at once.
 * Compile without contraction of a * b + c, or results differ in the last bit.
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifdef _WIN32
#define EXPORT __declspec(dllexport)
#else
#define EXPORT __attribute__((visibility("default")))
#endif

enum { BLANK = 0, SPACE = 0x20, ROOT = 0, OUTSIDE = 1, NONE = -1 };
static const uint64_t HASH_START = 0xCBF29CE484222325u, HASH_FACTOR = 0x100000001B3u;

typedef struct { /* LanguageModel */
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
} Lm;

typedef struct { /* Phrases */
    const int32_t *keys, *targets;
    const double *values, *keeps;
    const int32_t *fails;
    int32_t edges;
} Phrases;

typedef struct {
    const int32_t *spelt_first; /* units + 1: bytes of unit u, none if it is not usable */
    const uint8_t *spelt;
    const uint8_t *usable;
    const Lm *lm;           /* may be null */
    const Phrases *phrases; /* may be null */
    double beam_threshold, token_threshold, lm_weight, word_bonus, unknown_score;
    int32_t units, beam, space; /* space: the unit that only ends words, or BLANK */
} Settings;

typedef struct {
    uint64_t word_hash;
    double lm_score, earned, pending, kept, total;
    uint32_t state;
    int32_t phrase, in_word, unknown;
} Reading;

typedef struct {
    double blank, label, best_blank, best_label;
    int32_t spikes_blank, spikes_label; /* records */
    int32_t new_spike, new_before;      /* spikes_label is yet to be made: frame 'now' */
    float new_peak;
} Alignments;

typedef struct { /* spike of a unit, and those before it */
    int32_t before, frame;
    float peak;
} Record;

typedef struct {
    Reading reading;
    Alignments now, next;
    int32_t parent, token, child, sibling, active, ended_known;
    Reading ended; /* after the current word has ended */
} Prefix;

typedef struct {
    double score;
    int32_t order, prefix, unit;
    Alignments fresh;
    Reading reading;
} Candidate;

typedef struct {
    const Settings *settings;
    Prefix *prefixes;
    Record *records;
    Candidate *candidates;
    int32_t *kept, *allowed;
    size_t prefix_count, prefix_room, record_count, record_room, candidate_count, candidate_room;
    int32_t kept_count;
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

/* --- language model and phrases --- */

/* Place of a hash among sorted ones; `count` if it is not there. */
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

static double lm_score(const Lm *lm, uint32_t *state, uint32_t word)
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

static double phrase_step(const Phrases *phrases, int32_t *node, int32_t byte)
{
    double kept = 0.0;
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
            return kept;
        }
        if (*node == ROOT || *node == OUTSIDE) {
            *node = byte == SPACE ? ROOT : OUTSIDE;
            return kept;
        }
        kept += phrases->keeps[*node];
        *node = phrases->fails[*node];
    }
}

/* --- readings --- */

static void end_word(const Settings *settings, Reading *reading)
{
    double gain = settings->word_bonus;
    if (settings->lm) {
        const Lm *lm = settings->lm;
        uint32_t word = lm->unknown;
        if (!reading->unknown) {
            uint32_t place = find_hash(lm->hashes, lm->size, reading->word_hash);
            if (place < lm->size)
                word = lm->hash_words[place];
        }
        double log = lm_score(lm, &reading->state, word);
        reading->lm_score += log;
        gain += settings->lm_weight * log;
        if (word == lm->unknown)
            gain += settings->unknown_score;
    }
    reading->earned += gain;
    reading->pending = 0.0;
    reading->word_hash = HASH_START;
    reading->in_word = reading->unknown = 0;
    if (settings->phrases)
        reading->kept += phrase_step(settings->phrases, &reading->phrase, SPACE);
}

static void look_ahead(const Settings *settings, Reading *reading)
{
    const Lm *lm = settings->lm;
    uint32_t place = find_hash(lm->prefixes, lm->prefix_count, reading->word_hash);
    if (place < lm->prefix_count) {
        reading->pending = settings->lm_weight * lm->prefix_logs[place];
        return;
    }
    uint32_t state = reading->state;
    double log = lm_score(lm, &state, lm->unknown);
    reading->unknown = 1;
    reading->pending = settings->lm_weight * log + settings->unknown_score;
}

static Reading extend(const Settings *settings, Prefix *prefix, int32_t unit)
{
    Reading reading = prefix->reading;
    int32_t first = settings->spelt_first[unit], end = settings->spelt_first[unit + 1];
    for (int32_t i = first; i < end; i++) {
        uint8_t byte = settings->spelt[i];
        if (byte != SPACE) {
            reading.word_hash = (reading.word_hash ^ byte) * HASH_FACTOR;
            reading.in_word = 1;
            if (settings->phrases)
                reading.kept += phrase_step(settings->phrases, &reading.phrase, byte);
        } else if (reading.in_word) {
            if (i > first) {
                end_word(settings, &reading);
                continue;
            }
            /* Many pieces begin a word; the word before them is looked up once. */
            if (!prefix->ended_known) {
                end_word(settings, &reading);
                prefix->ended = reading;
                prefix->ended_known = 1;
            }
            reading = prefix->ended;
        }
    }
    if (settings->lm && reading.in_word && !reading.unknown)
        look_ahead(settings, &reading);
    double value = settings->phrases ? settings->phrases->values[reading.phrase] : 0.0;
    reading.total = (reading.earned + reading.pending) + (reading.kept + value);
    return reading;
}

static Reading finish(const Settings *settings, Reading reading)
{
    if (reading.in_word)
        end_word(settings, &reading);
    if (settings->lm) {
        double log = lm_score(settings->lm, &reading.state, settings->lm->eos);
        reading.lm_score += log;
        reading.earned += settings->lm_weight * log;
    }
    if (settings->phrases) {
        double kept = 0.0;
        int32_t node = reading.phrase;
        while (node != ROOT && node != OUTSIDE) {
            kept += settings->phrases->keeps[node];
            node = settings->phrases->fails[node];
        }
        reading.kept += kept;
    }
    reading.total = reading.earned + reading.kept;
    return reading;
}

/* --- the search --- */

static int grow(void **array, size_t *room, size_t needed, size_t size)
{
    if (needed <= *room)
        return 1;
    size_t wanted = *room ? *room : 256;
    while (wanted < needed)
        wanted *= 2;
    void *larger = realloc(*array, wanted * size);
    if (!larger)
        return 0;
    *array = larger;
    *room = wanted;
    return 1;
}

static int32_t best_of(const Alignments *now, double *best)
{
    if (now->best_blank >= now->best_label) {
        *best = now->best_blank;
        return now->spikes_blank;
    }
    *best = now->best_label;
    return now->spikes_label;
}

static const Alignments NOTHING = {
    -INFINITY, -INFINITY, -INFINITY, -INFINITY, NONE, NONE, 0, NONE, 0.0f};

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

static int32_t find_child(const Search *search, int32_t prefix, int32_t unit)
{
    int32_t child = search->prefixes[prefix].child;
    while (child != NONE && search->prefixes[child].token != unit)
        child = search->prefixes[child].sibling;
    return child;
}

static int extend_all(Search *search, int32_t index, const float *row, int32_t allowed)
{
    Prefix *prefix = &search->prefixes[index];
    double best, total = log_add(prefix->now.blank, prefix->now.label);
    int32_t spikes = best_of(&prefix->now, &best);
    for (int32_t i = 0; i < allowed; i++) {
        int32_t unit = search->allowed[i], before = spikes;
        float log = row[unit];
        double gain = total + log, best_gain = best + log;
        if (unit == prefix->token) {
            gain = prefix->now.blank + log;
            best_gain = prefix->now.best_blank + log;
            before = prefix->now.spikes_blank;
        }
        if (gain == -INFINITY)
            continue;
        if (unit == search->settings->space && unit == prefix->token) {
            /* One more space changes no text: another alignment of the same prefix. */
            prefix->next.label = log_add(prefix->next.label, gain);
            if (best_gain > prefix->next.best_label) {
                prefix->next.best_label = best_gain;
                prefix->next.spikes_label = before;
                prefix->next.new_spike = 0;
            }
            continue;
        }
        int32_t child = find_child(search, index, unit);
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
            candidate->unit = unit;
            candidate->reading = extend(search->settings, prefix, unit);
            candidate->fresh = NOTHING;
            candidate->fresh.label = gain;
            candidate->score = gain + candidate->reading.total;
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

/* The prefix of a kept candidate, made if the tree does not have it yet; NONE: out of memory. */
static int32_t settle(Search *search, Candidate *candidate, int32_t frame)
{
    int32_t index = candidate->prefix;
    if (candidate->unit != BLANK) {
        int32_t child = find_child(search, index, candidate->unit);
        if (child == NONE) {
            if (!grow((void **)&search->prefixes, &search->prefix_room, search->prefix_count + 1,
                      sizeof(Prefix)))
                return NONE;
            child = (int32_t)search->prefix_count++;
            Prefix *made = &search->prefixes[child], *parent = &search->prefixes[index];
            memset(made, 0, sizeof(Prefix));
            made->reading = candidate->reading;
            made->parent = index;
            made->token = candidate->unit;
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
        int32_t index = settle(search, &search->candidates[i], frame);
        if (index == NONE)
            return 0;
        search->kept[search->kept_count++] = index;
    }
    return 1;
}

static int step(Search *search, const float *row, int32_t frame)
{
    const Settings *settings = search->settings;
    double limit = row[0];
    int32_t allowed = 0;
    for (int32_t unit = 1; unit < settings->units; unit++)
        if (row[unit] > limit)
            limit = row[unit];
    limit -= settings->token_threshold;
    for (int32_t unit = 0; unit < settings->units; unit++)
        if (settings->usable[unit] && row[unit] >= limit)
            search->allowed[allowed++] = unit;
    for (int32_t i = 0; i < search->kept_count; i++)
        stay(search, &search->prefixes[search->kept[i]], row, limit);
    /* Places 0 to kept_count are for the prefixes that stay, as they come first among equals. */
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
        candidate->score = log_add(prefix->next.blank, prefix->next.label) + prefix->reading.total;
        candidate->order = i;
        candidate->prefix = search->kept[i];
        candidate->unit = BLANK;
        candidate->fresh = prefix->next;
    }
    return prune(search, frame);
}

static int begin(Search *search)
{
    const Settings *settings = search->settings;
    search->kept = malloc((size_t)settings->beam * sizeof(int32_t));
    search->allowed = malloc((size_t)settings->units * sizeof(int32_t));
    if (!search->kept || !search->allowed ||
        !grow((void **)&search->prefixes, &search->prefix_room, 1, sizeof(Prefix)))
        return 0;
    Prefix *root = &search->prefixes[0];
    memset(root, 0, sizeof(Prefix));
    root->parent = root->child = root->sibling = NONE;
    root->token = settings->space;
    root->reading.word_hash = HASH_START;
    root->reading.state = settings->lm ? settings->lm->start : 0;
    root->now = NOTHING;
    root->now.blank = root->now.best_blank = 0.0;
    root->active = 1;
    search->prefix_count = 1;
    search->kept[0] = 0;
    search->kept_count = 1;
    return 1;
}

static void give(const Search *search, int32_t index, int32_t *length, int32_t *tokens,
                 int32_t *frames)
{
    double best;
    int32_t count = 0, spikes = best_of(&search->prefixes[index].now, &best);
    for (int32_t at = index; search->prefixes[at].parent != NONE; at = search->prefixes[at].parent)
        count++;
    *length = count;
    for (int32_t at = index; count > 0; at = search->prefixes[at].parent) {
        count--;
        tokens[count] = search->prefixes[at].token;
        frames[count] = spikes == NONE ? 0 : search->records[spikes].frame;
        spikes = spikes == NONE ? NONE : search->records[spikes].before;
    }
}

static int finish_all(Search *search, int32_t frames, int32_t *lengths, double *scores,
                      int32_t *tokens, int32_t *spikes)
{
    int32_t count = search->kept_count;
    if (!grow((void **)&search->candidates, &search->candidate_room, (size_t)count,
              sizeof(Candidate)))
        return -1;
    for (int32_t i = 0; i < count; i++) {
        Prefix *prefix = &search->prefixes[search->kept[i]];
        Candidate *candidate = &search->candidates[i];
        candidate->reading = finish(search->settings, prefix->reading);
        candidate->order = i;
        candidate->prefix = search->kept[i];
        candidate->score = log_add(prefix->now.blank, prefix->now.label) + candidate->reading.total;
    }
    qsort(search->candidates, (size_t)count, sizeof(Candidate), by_score);
    for (int32_t i = 0; i < count; i++) {
        const Candidate *candidate = &search->candidates[i];
        const Alignments *now = &search->prefixes[candidate->prefix].now;
        size_t place = (size_t)i * (size_t)frames;
        scores[3 * i] = candidate->score;
        scores[3 * i + 1] = log_add(now->blank, now->label);
        scores[3 * i + 2] = candidate->reading.lm_score;
        give(search, candidate->prefix, &lengths[i], tokens + place, spikes + place);
    }
    return count;
}

EXPORT int32_t asr_native_version(void) { return 1; }

/* Decodes log_probs (frames, units). Room given: lengths (beam), scores (beam, 3), tokens and
 * spikes (beam, frames). Returns how many prefixes were found, best first; -1: out of memory. */
EXPORT int32_t asr_beam_search(const Settings *settings, const float *log_probs, int32_t frames,
                               int32_t *lengths, double *scores, int32_t *tokens, int32_t *spikes)
{
    Search search = {0};
    int32_t count = -1, frame = 0;
    search.settings = settings;
    if (begin(&search)) {
        for (; frame < frames; frame++)
            if (!step(&search, log_probs + (size_t)frame * (size_t)settings->units, frame))
                break;
        if (frame == frames)
            count = finish_all(&search, frames, lengths, scores, tokens, spikes);
    }
    free(search.prefixes);
    free(search.records);
    free(search.candidates);
    free(search.kept);
    free(search.allowed);
    return count;
}
