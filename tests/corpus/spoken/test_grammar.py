"""Sentences of the built-in corpus: numbers of words, letters, reproducibility."""

import os
import random
import re
import subprocess
import sys
from itertools import islice

import pytest

from asr.corpus.spoken.grammar import Grammar, grammar, part_of, sentences
from asr.corpus.spoken.inflect import article, inflect
from asr.corpus.spoken.settings import PARTS


@pytest.mark.parametrize(
    ("vocabulary", "fewest", "most"), [("small", 270, 350), ("large", 1500, 3000)]
)
def test_grammars_have_the_promised_numbers_of_words(vocabulary, fewest, most):
    assert fewest <= len(grammar(vocabulary).words()) <= most


def test_large_grammar_contains_the_small_one():
    assert grammar("small").words() < grammar("large").words()


@pytest.mark.parametrize(
    ("vocabulary", "count", "fraction"), [("small", 20000, 1.0), ("large", 40000, 0.97)]
)
def test_words_are_reached_by_sentences_and_no_others(vocabulary, count, fraction):
    generator = random.Random(1)
    spoken = {w for _ in range(count) for w in grammar(vocabulary).sentence(generator).split()}
    words = grammar(vocabulary).words()
    assert spoken <= words
    assert len(spoken) >= fraction * len(words)


@pytest.mark.parametrize("vocabulary", ["small", "large"])
def test_sentences_are_short_varied_and_spelt_in_our_characters(vocabulary):
    texts = list(islice(sentences(vocabulary, "train", 1), 3000))
    assert len(set(texts)) == 3000
    for text in texts:
        assert re.fullmatch(r"[A-Z']+( [A-Z']+){3,11}", text), text
        assert not re.search(r"\bA [AEIO]", text.replace("A ONE", "").replace("A EU", "")), text
    lengths = {len(text.split()) for text in texts}
    assert lengths == set(range(4, 13))


def test_every_rule_of_the_grammar_is_used_and_every_irregular_form_comes_up():
    large = Grammar("large")
    assert {word.upper() for word in large._irregular.values()} <= large.words()
    used = {item.rule for rule in large._alternatives.values() for items in rule for item in items}
    assert set(large._alternatives) - used == {"sentence"}


def test_no_sentence_is_in_two_parts():
    texts = {part: set(islice(sentences("small", part, 1), 2000)) for part in PARTS}
    assert not texts["train"] & texts["dev"]
    assert not texts["train"] & texts["test"]
    assert not texts["dev"] & texts["test"]
    assert all(part_of(text) == part for part in PARTS for text in texts[part])


def test_no_sentence_is_in_parts_of_different_seeds():
    first = set(islice(sentences("small", "train", 1), 2000))
    assert not first & set(islice(sentences("small", "test", 2), 2000))


def test_another_seed_gives_other_sentences():
    one, two = (list(islice(sentences("small", "train", seed), 20)) for seed in (1, 2))
    assert not set(one) & set(two)


def test_sentences_do_not_depend_on_python_hash_seed():
    program = (
        "from itertools import islice; from asr.corpus.spoken.grammar import *;"
        "from asr.corpus.spoken.settings import PARTS;"
        "print([list(islice(sentences(v, p, 3), 50)) for v in ('small', 'large') for p in PARTS],"
        "sorted(grammar('large').words()))"
    )
    outputs = [
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert outputs[0] == outputs[1]
    assert len(outputs[0]) > 1000


@pytest.mark.parametrize(
    ("word", "form", "expected"),
    [
        ("dog", "plural", "dogs"),
        ("box", "plural", "boxes"),
        ("witch", "plural", "witches"),
        ("puppy", "plural", "puppies"),
        ("donkey", "plural", "donkeys"),
        ("radio", "plural", "radios"),
        ("go", "third", "goes"),
        ("carry", "third", "carries"),
        ("stop", "past", "stopped"),
        ("open", "past", "opened"),
        ("fix", "past", "fixed"),
        ("dance", "past", "danced"),
        ("try", "past", "tried"),
        ("play", "past", "played"),
        ("run", "ing", "running"),
        ("make", "ing", "making"),
        ("see", "ing", "seeing"),
        ("visit", "ing", "visiting"),
        ("measure", "ing", "measuring"),
    ],
)
def test_regular_inflection(word, form, expected):
    assert inflect(word, form) == expected


@pytest.mark.parametrize(
    ("following", "expected"),
    [
        ("apple", "an"),
        ("dog", "a"),
        ("honest", "an"),
        ("hour", "an"),
        ("horse", "a"),
        ("one", "a"),
        ("onion", "an"),
        ("uniform", "a"),
        ("university", "a"),
        ("umbrella", "an"),
        ("useful", "a"),
        ("unimportant", "an"),
        ("european", "a"),
    ],
)
def test_article_goes_by_sound(following, expected):
    assert article(following) == expected
