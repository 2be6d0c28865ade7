"""Kneser-Ney estimates against plain formulas, sums of one, pruning."""

import math
from collections import Counter, defaultdict

import numpy as np
import pytest
from decoding_data import SENTENCES

from asr.decode.lm.build import build_model
from asr.decode.lm.model import LanguageModel, perplexity
from asr.decode.lm.train import number_words, train_ngrams
from asr.errors import AsrError

WORDS = list(dict.fromkeys(" ".join(SENTENCES).split()))


def long_text(sentences: int = 1000, seed: int = 1) -> list[str]:
    """Sentences of a random grammar of word pairs with some rare words."""
    generator = np.random.default_rng(seed)
    follow = {word: generator.dirichlet(np.full(len(WORDS), 0.3)) for word in ("", *WORDS)}
    text = []
    for _ in range(sentences):
        words = [""]
        for _ in range(int(generator.integers(1, 9))):
            if generator.random() < 0.2:
                words.append(f"RARE{int(10 * generator.pareto(0.7)) % 2000}")
            else:
                words.append(str(generator.choice(WORDS, p=follow.get(words[-1], follow[""]))))
        text.append(" ".join(words[1:]))
    return text


def model_of(sentences: list[str], order: int, cutoffs=(1,), prune=0.0) -> LanguageModel:
    return build_model(train_ngrams(number_words(sentences), order, cutoffs, prune).ngrams)


class PlainKneserNey:
    """Interpolated modified Kneser-Ney as in Chen and Goodman, without pruning."""

    def __init__(self, sentences: list[str], order: int) -> None:
        self.order = order
        lines = [["<s>", *sentence.split(), "</s>"] for sentence in sentences]
        self.vocabulary = {word for line in lines for word in line} - {"<s>"} | {"<unk>"}
        self.counts: dict[int, Counter] = {}
        for n in range(order, 0, -1):
            raw = Counter(
                tuple(line[i : i + n]) for line in lines for i in range(len(line) - n + 1)
            )
            if n < order:
                above = Counter(gram[1:] for gram in self.raw)
                counts = {g: raw[g] if g[0] == "<s>" else above[g] for g in raw}
            else:
                counts = dict(raw)
            counts.pop(("<s>",), None)
            self.counts[n], self.raw = Counter(counts), raw
        self.discounts = {n: self._discounts(counts) for n, counts in self.counts.items()}
        self.followers: dict[tuple, dict] = defaultdict(dict)
        for counts in self.counts.values():
            for gram, count in counts.items():
                self.followers[gram[:-1]][gram[-1]] = count

    @staticmethod
    def _discounts(counts: Counter) -> list[float]:
        n = [0, *(sum(1 for c in counts.values() if c == i) for i in range(1, 5))]
        y = n[1] / (n[1] + 2 * n[2])
        return [0.0, *(i - (i + 1) * y * n[i + 1] / n[i] for i in (1, 2, 3))]

    def probability(self, context: tuple[str, ...], word: str) -> float:
        context = context[max(0, len(context) - self.order + 1) :]
        below = 1 / len(self.vocabulary) if not context else self.probability(context[1:], word)
        followers = self.followers.get(context)
        if not followers:
            return below
        discount = self.discounts[len(context) + 1]
        total = sum(followers.values())
        left = sum(discount[min(count, 3)] for count in followers.values()) / total
        count = followers.get(word, 0)
        return max(0.0, count - discount[min(count, 3)]) / total + left * below


def state_after(model: LanguageModel, context: tuple[str, ...]) -> int:
    state = model.start if context[:1] == ("<s>",) else 0
    for word in context[context[:1] == ("<s>",) :]:
        state = model.score(state, model.word(word))[1]
    return state


CONTEXTS = [(), ("<s>",), ("<s>", "THE"), ("THE",), ("THE", "CAT"), ("RAN", "MAN"), ("NEW", "MAN"),
            ("<s>", "NEW"), ("CAT", "SAT", "ON")]  # fmt: skip


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_probabilities_equal_the_plain_formulas(order):
    sentences = long_text()
    training = train_ngrams(number_words(sentences), order, (1,))
    plain = PlainKneserNey(sentences, order)
    model = build_model(training.ngrams)
    assert not training.fallbacks
    for context in CONTEXTS:
        state = state_after(model, context)
        for word in sorted(plain.vocabulary):
            number = model.word(word) if word != "<unk>" else model.unknown
            expected = plain.probability(context, word)
            assert model.score(state, number)[0] == pytest.approx(math.log(expected), abs=2e-6)


@pytest.mark.parametrize(
    ("order", "cutoffs", "prune"),
    [(1, (1,), 0), (2, (1, 2), 0), (3, (1, 1, 2), 0), (3, (1, 2, 3), 0), (3, (1,), 1e-3),
     (4, (1, 1, 2), 1e-4)],
)  # fmt: skip
def test_every_context_sums_to_one(order, cutoffs, prune):
    model = model_of(long_text(), order, cutoffs, prune)
    words = [word for word in range(model.size) if word != model.bos]
    for context in CONTEXTS:
        state = state_after(model, context)
        total = sum(math.exp(model.score(state, word)[0]) for word in words)
        assert total == pytest.approx(1.0, abs=1e-6), context


def test_fixed_discounts_for_too_little_text_are_reported_and_sum_to_one():
    training = train_ngrams(number_words(SENTENCES[:2]), 3, (1,))
    model = build_model(training.ngrams)
    assert training.fallbacks == (1, 2, 3)
    words = [word for word in range(model.size) if word != model.bos]
    assert sum(math.exp(model.score(model.start, word)[0]) for word in words) == pytest.approx(1.0)


def test_cutoffs_remove_rare_ngrams_but_no_words():
    sentences = long_text()
    kept = model_of(sentences, 3, (1, 1, 2)).counts
    lines = [["<s>", *sentence.split(), "</s>"] for sentence in sentences]
    triples = Counter(tuple(line[i : i + 3]) for line in lines for i in range(len(line) - 2))
    assert kept[2] == sum(1 for count in triples.values() if count >= 2) < len(triples)
    assert kept[:2] == model_of(sentences, 3).counts[:2]


def test_pruning_by_entropy_costs_little_perplexity_for_many_ngrams():
    sentences, heldout = long_text(1500), long_text(200, seed=2)
    whole = model_of(sentences, 3)
    fewer = [model_of(sentences, 3, prune=threshold) for threshold in (1e-4, 1e-3)]
    sizes = [model.counts[2] for model in (whole, *fewer)]
    assert sizes[0] > 1.3 * sizes[1] > 1.3 * 1.3 * sizes[2]
    first, *rest = (perplexity(model, heldout).known for model in (whole, *fewer))
    assert all(other < 1.05 * first for other in rest)


def test_longer_contexts_lower_the_perplexity_of_text_like_the_training():
    values = [perplexity(model_of(SENTENCES, n), SENTENCES[:8]).known for n in (1, 2, 3)]
    assert values[0] > 1.5 * values[1]
    assert values[1] > values[2]


def test_perplexity_distinguishes_known_words_from_unknown_ones():
    found = perplexity(model_of(SENTENCES, 2), ["THE ZEBRA SAT", "", "THE CAT"])
    assert (found.words, found.unknown) == (7, 1)
    assert found.with_unknown > found.known


def test_rare_words_become_unknown_on_request():
    text = number_words(["A B", "A C", "A B"], min_count=2)
    model = build_model(train_ngrams(text, 2, (1,)).ngrams)
    assert model.word("C") == model.unknown
    assert sorted(model.spellings()) == ["</s>", "<s>", "<unk>", "A", "B"]


@pytest.mark.parametrize(
    ("sentences", "arguments", "fragment"),
    [
        ([], {}, "has no words"),
        (["A <s> B"], {}, "must not be words of the text"),
        (["A B"], {"order": 0}, "from 1 to 6"),
        (["A B"], {"cutoffs": (2, 2)}, "set min_count"),
        (["A B"], {"cutoffs": (1, 3, 2)}, "must not decrease"),
        (["A B"], {"cutoffs": (0,)}, "counts of 1 or more"),
        (["A B"], {"prune": 1.0}, "from 0 to below 1"),
    ],
)
def test_bad_texts_and_options_are_refused(sentences, arguments, fragment):
    with pytest.raises(AsrError, match=fragment):
        train_ngrams(number_words(sentences), **arguments)


@pytest.mark.parametrize("count", [3, 10**8, 10**20])
def test_a_least_count_that_no_word_reaches_is_refused(count):
    with pytest.raises(AsrError, match=f"min_count={count}: no word occurs that often"):
        number_words(["A B", "B A"], min_count=count)
