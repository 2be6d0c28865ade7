"""ARPA files: round trips, files of other programs, malformed ones; kenlm's scores."""

import gzip
import lzma
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from decoding_data import SENTENCES

from asr.decode.lm.arpa import read_arpa, write_arpa
from asr.decode.lm.build import build_model
from asr.decode.lm.open import open_lm
from asr.decode.lm.train import number_words, train_ngrams
from asr.errors import AsrError

SMALL = """\
a comment
\\data\\
ngram 1=5
ngram 2=3

\\1-grams:
-99\t<s>\t-0.3
-1.0\t</s>
-2.0\t<unk>
-0.5\tA\t-0.2
-0.7\tB

\\2-grams:
-0.1\t<s> A
-0.4\tA B
-0.6\tB </s>

\\end\\
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "small.arpa"
    path.write_text(text)
    return path


def test_a_file_of_a_few_lines_gives_the_scores_that_it_lists(tmp_path):
    model = open_lm(write(tmp_path, SMALL))
    known = [log for log, _ in model.sentence("A B")]
    assert np.array(known) / math.log(10) == pytest.approx([-0.1, -0.4, -0.6], abs=1e-6)
    unknown = model.sentence("B C")
    # <s> B backs off, <unk> has no context, nor has the end after it.
    expected = [-0.3 - 0.7, -2.0, -1.0]
    assert [log / math.log(10) for log, _ in unknown] == pytest.approx(expected, abs=1e-6)
    assert [is_known for _, is_known in unknown] == [True, False, True]


@pytest.mark.parametrize("name", ["m.arpa", "m.arpa.gz"])
def test_a_model_survives_being_written_and_read(name, tmp_path):
    ngrams = train_ngrams(number_words(SENTENCES), 3, (1,)).ngrams
    write_arpa(tmp_path / name, ngrams)
    again = read_arpa(tmp_path / name)
    assert again.vocabulary == ngrams.vocabulary
    for ours, theirs in zip(ngrams.orders, again.orders, strict=True):
        for field in ("contexts", "words"):
            assert np.array_equal(getattr(ours, field), getattr(theirs, field))
        for field in ("logs", "backoffs"):
            assert getattr(ours, field) == pytest.approx(getattr(theirs, field), abs=1e-6)


def test_equal_models_give_equal_compressed_files(tmp_path):
    for name in ("a.arpa.gz", "b.arpa.gz"):
        write_arpa(tmp_path / name, train_ngrams(number_words(SENTENCES), 2, (1,)).ngrams)
    assert (tmp_path / "a.arpa.gz").read_bytes() == (tmp_path / "b.arpa.gz").read_bytes()


@pytest.mark.parametrize("compress", [gzip.compress, lzma.compress])
def test_compressed_files_are_recognised_by_their_bytes(compress, tmp_path):
    path = tmp_path / "compressed"
    path.write_bytes(compress(SMALL.encode()))
    assert open_lm(path).counts == (5, 3)


def test_a_file_without_unk_gives_unknown_words_hardly_any_probability(tmp_path):
    text = SMALL.replace("-2.0\t<unk>\n", "").replace("1=5", "1=4")
    model = open_lm(write(tmp_path, text))
    assert model.score(0, model.unknown)[0] == pytest.approx(-100 * math.log(10))


@pytest.mark.parametrize(
    ("old", "new", "fragment"),
    [
        ("\\data\\", "\\dada\\", "no line .data."),
        ("ngram 2=3", "ngram 3=3", ":4: expected ngram 2=COUNT"),
        ("ngram 2=3", "ngram 2=4", ":18: .2-grams: ends here, before the count"),
        ("ngram 1=5", "ngram 1=4", "expected .2-grams:"),
        ("-0.7\tB\n", "-0.7\tA\n", "listed twice"),
        ("-0.7\tB\n", "-0.7\n", ":11: expected a log-probability"),
        ("-0.7\tB\n", "x\tB\n", ":11: expected a number for the log10 probability, found 'x'"),
        ("-0.4\tA B", "-0.4\tA C", ":15: 'C' is not a word"),
        ("-0.6\tB </s>", "-0.6\tA B", "listed twice"),
        ("\\end\\", "", "truncated"),
        (SMALL[SMALL.index("\n\\1-grams") :], "", "expected .1-grams:"),
        ("-99\t<s>\t-0.3", "-99\t<z>\t-0.3", "<s>"),
    ],
)
def test_a_malformed_file_is_refused_with_the_line(old, new, fragment, tmp_path):
    assert old in SMALL
    path = write(tmp_path, SMALL.replace(old, new, 1))
    with pytest.raises(AsrError, match=fragment):
        open_lm(path)


def test_a_trigram_whose_first_words_are_not_listed_is_refused(tmp_path):
    text = SMALL.replace("ngram 2=3", "ngram 2=3\nngram 3=1")
    text = text.replace("\\end\\", "\\3-grams:\n-0.2\tB A B\n\n\\end\\")
    with pytest.raises(AsrError, match="begin with 2 words"):
        open_lm(write(tmp_path, text))


def test_a_model_without_a_suffix_backs_off_further(tmp_path):
    """As in models that other programs pruned: <s> A B is listed, A B is not."""
    text = SMALL.replace("ngram 2=3", "ngram 2=2\nngram 3=1").replace("-0.4\tA B\n", "")
    text = text.replace("<s> A\n", "<s> A\t-0.25\n")
    text = text.replace("\\end\\", "\\3-grams:\n-0.2\t<s> A B\n\n\\end\\")
    logs = [log / math.log(10) for log, _ in open_lm(write(tmp_path, text)).sentence("A B")]
    assert logs == pytest.approx([-0.1, -0.2, -0.6], abs=1e-6)


def test_damaged_and_missing_files_are_refused(tmp_path):
    path = tmp_path / "m.arpa.gz"
    path.write_bytes(gzip.compress(SMALL.encode())[:-20])
    with pytest.raises(AsrError, match="damaged"):
        open_lm(path)
    with pytest.raises(AsrError, match="cannot read"):
        open_lm(tmp_path / "none.arpa")


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="flashlight-text has no wheel")
@pytest.mark.parametrize(("order", "prune"), [(2, 0.0), (3, 0.0), (4, 1e-3)])
def test_kenlm_reads_our_files_and_gives_the_same_scores(order, prune, tmp_path):
    from flashlight.lib.text.decoder.kenlm import KenLM
    from flashlight.lib.text.dictionary import Dictionary

    ngrams = train_ngrams(number_words(SENTENCES), order, (1,), prune).ngrams
    write_arpa(tmp_path / "m.arpa", ngrams)
    model = build_model(ngrams)
    words = [*ngrams.vocabulary, "ZEBRA"]
    kenlm = KenLM(str(tmp_path / "m.arpa"), Dictionary(words))
    for sentence in ("THE CAT SAT ON THE MAT", "A DOG IS BY THE ZEBRA", "MAT THE ON", "ZEBRA RAN"):
        state, logs = kenlm.start(False), []
        for word in sentence.split():
            state, log = kenlm.score(state, words.index(word))
            logs.append(log * math.log(10))
        logs.append(kenlm.finish(state)[1] * math.log(10))
        assert logs == pytest.approx([log for log, _ in model.sentence(sentence)], abs=1e-4)
