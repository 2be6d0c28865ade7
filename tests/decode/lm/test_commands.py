"""`asr lm train`, `convert`, `info`, `tune`: files, printed figures, errors."""

import gzip
import re
from pathlib import Path

import numpy as np
import pytest
from decoding_data import SENTENCES, spoken_log_probs, write_small_model

from asr.decode import DecoderOptions
from asr.decode.lm import commands
from asr.decode.lm.open import open_lm
from asr.decode.lm.tune import Trial, at_edge, table, tune
from asr.errors import AsrError
from asr.text.tokenizer import CharacterTokenizer

TOKENIZER = CharacterTokenizer()


@pytest.fixture
def texts(tmp_path) -> list[Path]:
    """Sentences in a plain file that is not in normal form, and in a compressed one that is."""
    lines = "".join(f"{sentence}\n" for sentence in SENTENCES[:8])
    (tmp_path / "a.txt").write_text("The cat's mat!\n\n")
    (tmp_path / "b.gz").write_bytes(gzip.compress(lines.encode()))
    return [tmp_path / "a.txt", tmp_path / "b.gz"]


@pytest.mark.parametrize("name", ["m.arpa", "m.arpa.gz", "m.lm"])
def test_train_writes_the_format_of_the_file_name(name, texts, tmp_path):
    printed = commands.lm_train(
        texts, tmp_path / name, order=2, cutoffs="1,1", heldout=texts[1], normalisation="en-v1"
    )
    model = open_lm(tmp_path / name)
    assert model.order == 2
    assert model.word("CAT'S") != model.unknown
    assert "9 sentences, 50 words" in printed
    assert "1-grams: 19 of 19 kept" in printed
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
        ({"cutoffs": "1,3,2"}, "must not decrease"),
        ({"heldout": Path("nowhere.txt")}, "nowhere.txt: no such file"),
        ({"normalisation": "de-v9"}, "is unknown"),
    ],
)
def test_train_refuses_bad_arguments(arguments, fragment, texts, tmp_path):
    with pytest.raises(AsrError, match=fragment):
        commands.lm_train(texts, tmp_path / "m.lm", **arguments)
    assert not (tmp_path / "m.lm").exists()


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
