/* What a search of a stream no longer needs: the tokens that all prefixes in the beam share go to
 * the caller, and what only led to dropped prefixes is removed. Part of beam.c.
 *
 *   root -> S -> H -> E -> A -> T       in the beam: S H E A T, S H E E
 *                 \-> I    \-> E        decided: S H E, which becomes the root; I is removed
 *
 * Scores and states of prefixes stay as they are, so a search that is told to decide finds what one
 * finds that is not.
 */
#ifndef ASR_BEAM_ROOT_H
#define ASR_BEAM_ROOT_H

/* Prefixes, and records, that are worth removing what is not needed. */
#define TIDY 4096

/* Tokens on the way from the root to a prefix. */
static void write_path(const Search *search, int32_t index, int32_t *tokens)
{
    for (int32_t i = tokens_of(search, index); i > 0; index = search->prefixes[index].parent)
        tokens[--i] = search->prefixes[index].token;
}

static int32_t ancestor(const Search *search, int32_t index, int32_t depth)
{
    while (search->prefixes[index].depth > depth)
        index = search->prefixes[index].parent;
    return index;
}

/* The longest prefix that all in the beam begin with. */
static int32_t common_prefix(const Search *search)
{
    const Prefix *prefixes = search->prefixes;
    int32_t common = search->kept[0];
    for (int32_t i = 1; i < search->kept_count; i++) {
        int32_t other = ancestor(search, search->kept[i], prefixes[common].depth);
        common = ancestor(search, common, prefixes[other].depth);
        while (common != other) {
            common = prefixes[common].parent;
            other = prefixes[other].parent;
        }
    }
    return common;
}

/* Drops the prefixes that do not begin with the first `count` tokens of the best one. */
static void agree(Search *search, int32_t count)
{
    int32_t depth = search->prefixes[search->root].depth + count, kept = 1;
    int32_t common = ancestor(search, search->kept[0], depth);
    for (int32_t i = 1; i < search->kept_count; i++) {
        int32_t index = search->kept[i];
        if (ancestor(search, index, depth) == common)
            search->kept[kept++] = index;
        else
            search->prefixes[index].active = 0;
    }
    search->kept_count = kept;
}

/* Marks the records of a prefix's tokens behind the root, but at least the last one: how probable
 * that one is decides where its spike will be. */
static void mark_records(const Search *search, int32_t record, int32_t count, int32_t *places)
{
    for (count = count > 1 ? count : 1; record != NONE && count > 0; count--) {
        places[record] = 0;
        record = search->records[record].before;
    }
}

static int32_t moved(const int32_t *places, int32_t index)
{
    return index == NONE ? NONE : places[index];
}

static void tidy_records(Search *search, int32_t *places)
{
    size_t count = 0;
    for (size_t i = 0; i < search->record_count; i++)
        places[i] = NONE;
    for (int32_t i = 0; i < search->kept_count; i++) {
        int32_t index = search->kept[i], tokens = tokens_of(search, index);
        mark_records(search, search->prefixes[index].now.spikes_blank, tokens, places);
        mark_records(search, search->prefixes[index].now.spikes_label, tokens, places);
    }
    for (size_t i = 0; i < search->record_count; i++) {
        if (places[i] == NONE)
            continue;
        places[i] = (int32_t)count;
        search->records[count] = search->records[i];
        search->records[count].before = moved(places, search->records[count].before);
        count++;
    }
    search->record_count = count;
    for (int32_t i = 0; i < search->kept_count; i++) {
        Alignments *now = &search->prefixes[search->kept[i]].now;
        now->spikes_blank = moved(places, now->spikes_blank);
        now->spikes_label = moved(places, now->spikes_label);
    }
}

static void tidy_prefixes(Search *search, int32_t *places)
{
    Prefix *prefixes = search->prefixes;
    size_t count = 0;
    for (size_t i = 0; i < search->prefix_count; i++)
        places[i] = NONE;
    for (int32_t i = 0; i < search->kept_count; i++)
        for (int32_t at = search->kept[i]; at != NONE && places[at]; at = prefixes[at].parent)
            places[at] = 0;
    for (size_t i = 0; i < search->prefix_count; i++) { /* a parent comes before its children */
        if (places[i] == NONE)
            continue;
        places[i] = (int32_t)count;
        Prefix *prefix = &prefixes[count];
        *prefix = prefixes[i];
        prefix->parent = moved(places, prefix->parent);
        prefix->child = prefix->sibling = NONE;
        if (prefix->parent != NONE) {
            prefix->sibling = prefixes[prefix->parent].child;
            prefixes[prefix->parent].child = (int32_t)count;
        }
        count++;
    }
    search->prefix_count = count;
    search->root = places[search->root];
    for (int32_t i = 0; i < search->kept_count; i++)
        search->kept[i] = places[search->kept[i]];
}

/* Removes what nobody needs once there is much of it; 0: out of memory. */
static int tidy(Search *search)
{
    if (search->prefix_count < search->tidy_prefixes && search->record_count < search->tidy_records)
        return 1;
    size_t most = search->prefix_count;
    if (search->record_count > most)
        most = search->record_count;
    int32_t *places = malloc(most * sizeof(int32_t));
    if (!places)
        return 0;
    tidy_records(search, places);
    tidy_prefixes(search, places);
    free(places);
    search->tidy_prefixes = 2 * search->prefix_count + TIDY;
    search->tidy_records = 2 * search->record_count + TIDY;
    return 1;
}

#endif
