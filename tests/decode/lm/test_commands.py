"""`asr lm train`, `convert`, `info`, `tune`: files made, figures printed, refusals."""

import gzip
import json
import lzma
import re
from pathlib import Path

import numpy as np
import pytest
from decoding import SENTENCES, spoken_log_probs, write_small_model

from asr.decode import DecoderOptions
from asr.decode.lm import commands
from asr.decode.lm.open import open_lm
from asr.decode.lm.tune import Trial, at_edge, table, tune
from asr.errors import AsrError
from asr.text.read import read_sentences
from asr.text.tokenizer import CharacterTokenizer

TOKENIZER = CharacterTokenizer()


@pytest.fixture
def texts(tmp_path) -> list[Path]:
    """The same sentences in four files: plain and raw, gzip, xz, and a manifest."""
    lines = [f"{sentence}\n".encode() for sentence in SENTENCES[:8]]
    (tmp_path / "a.txt").write_text("The cat -- sat on the mat!\n\n")
    (tmp_path / "b.gz").write_bytes(gzip.compress(b"".join(lines)))
    (tmp_path / "c.txt.xz").write_bytes(lzma.compress(b"".join(lines)))
    row = {"audio_filepath": "x.wav", "duration": 1.0, "text": "A cat's on it", "id": "x"}
    (tmp_path / "d.jsonl").write_text(json.dumps(row) + "\n")
    return [tmp_path / name for name in ("a.txt", "b.gz", "c.txt.xz", "d.jsonl")]


def test_sentences_are_read_from_every_kind_of_file_in_normal_form(texts):
    read = [sentence.strip() for sentence in read_sentences(texts)]
    assert read == [SENTENCES[0], "", *SENTENCES[:8], *SENTENCES[:8], "A CAT'S ON IT"]


@pytest.mark.parametrize("line", ["''A B", "A ' B", "' A", "a b", "A  B", "CAF\u00c9 A", "'TIS SO"])
def test_the_fast_way_for_plain_lines_gives_the_same_as_normalising(line, tmp_path):
    from asr.text.normalise import normalise

    (tmp_path / "a.txt").write_text(line + "\n")
    (sentence,) = read_sentences([tmp_path / "a.txt"])
    assert sentence.split() == normalise(line).split()


@pytest.mark.parametrize("name", ["m.arpa", "m.arpa.gz", "m.lm"])
def test_train_writes_the_form_that_the_name_asks_for(name, texts, tmp_path):
    printed = commands.lm_train(
        texts, tmp_path / name, order=2, cutoffs="1,1", heldout=texts[1], normalisation="en-v1"
    )
    model = open_lm(tmp_path / name)
    assert model.order == 2
    assert model.word("CAT'S") != model.unknown
    assert "18 sentences, 104 words" in printed
    assert "perplexity" in printed
    assert "0 of " in printed


def test_convert_and_info(texts, tmp_path):
    commands.lm_train(texts, tmp_path / "m.arpa.gz")
    commands.lm_convert(tmp_path / "m.arpa.gz", tmp_path / "m.lm")
    commands.lm_convert(tmp_path / "m.arpa.gz", tmp_path / "n.arpa")
    models = [open_lm(tmp_path / name) for name in ("m.arpa.gz", "m.lm", "n.arpa")]
    for sentence in SENTENCES[:8]:
        scores = [[log for log, _ in model.sentence(sentence)] for model in models]
        assert scores[0] == pytest.approx(scores[2])
        assert scores[0] == pytest.approx(scores[1], abs=0.05)  # rounded to 8 bits
    printed = commands.lm_info(tmp_path / "m.lm")
    assert not re.search("<s>|</s>|<unk>", printed), "they are not words"
    assert "order 3: " in printed
    assert "opened in" in printed
    with pytest.raises(AsrError, match="is binary; an ARPA file is made"):
        commands.lm_convert(tmp_path / "m.lm", tmp_path / "o.arpa")


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        ({"cutoffs": "1,x"}, "numbers with commas"),
        ({"cutoffs": "1,1,1,2"}, "at most one for each of 3"),
        ({"heldout": Path("nowhere.txt")}, "nowhere.txt: no such file"),
        ({"normalisation": "de-v9"}, "is unknown"),
    ],
)
def test_train_refuses(arguments, fragment, texts, tmp_path):
    with pytest.raises(AsrError, match=fragment):
        commands.lm_train(texts, tmp_path / "m.lm", **arguments)
    assert not (tmp_path / "m.lm").exists()


def test_texts_that_cannot_be_read_are_named(tmp_path):
    (tmp_path / "latin.txt").write_bytes(b"GOOD\nCAF\xc9\n")
    (tmp_path / "bad.jsonl").write_text('{"text": "A"}\n\n{"txt": "B"}\n')
    (tmp_path / "half.jsonl").write_text('{"text": "A"}\n{"text"\n')
    (tmp_path / "short.gz").write_bytes(gzip.compress(b"A\n" * 1000)[:-9])
    for name, fragment in (
        ("latin.txt", ":2: is not UTF-8"),
        ("short.gz", "damaged"),
        ("bad.jsonl", r"bad\.jsonl:3: must be a JSON object with a string"),
        ("half.jsonl", r"half\.jsonl:2: not JSON"),
        ("no", "no"),
    ):
        with pytest.raises(AsrError, match=fragment):
            list(read_sentences([tmp_path / name]))


def test_tune_finds_the_weight_that_helps(tmp_path):
    references = SENTENCES[:8]
    rows = [spoken_log_probs(text, TOKENIZER, seed, 1.8) for seed, text in enumerate(references)]

    def rate(texts: list[str]) -> float:
        return float(np.mean([a != b for a, b in zip(texts, references, strict=True)]))

    options = DecoderOptions("beam", lm=write_small_model(tmp_path))
    trials = tune(rows, rate, TOKENIZER, options, [0.0, 0.8], [0.0, 1.0])
    assert trials[0].lm_weight == 0.8
    assert trials[0].wer < max(trial.wer for trial in trials)
    assert len(trials) == 4
    assert table(trials).count("%") == 4


def test_a_best_value_at_the_edge_is_reported():
    trials = [Trial(0.8, 0.0, 0.1), Trial(0.4, 0.0, 0.2), Trial(0.8, 1.0, 0.3)]
    assert at_edge(trials) == ["lm_weight"]
    assert at_edge([Trial(0.4, 1.0, 0.1), Trial(0.2, 0.0, 0.2), Trial(0.8, 2.0, 0.3)]) == []


def test_tune_hears_a_dev_set_and_prints_what_to_set(trained, corpus, tmp_path):
    dev = corpus / "dev.jsonl"
    commands.lm_train([corpus / "train.jsonl"], tmp_path / "m.lm", order=2, cutoffs="1")
    printed = commands.lm_tune(
        trained, str(dev), tmp_path / "m.lm", "0.3,0.6", "0", output=tmp_path / "t.tsv"
    )
    assert "--lm-weight 0." in printed
    assert len((tmp_path / "t.tsv").read_text().splitlines()) == 3
    with pytest.raises(AsrError, match="is a test set by its name"):
        commands.lm_tune(trained, str(corpus / "test.jsonl"), tmp_path / "m.lm")
