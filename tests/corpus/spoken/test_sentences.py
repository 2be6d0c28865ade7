"""Sentences of text files: selection, separate parts, and the corpus made from them."""

import gzip
import json
from pathlib import Path

import pytest

from asr.corpus.manifest import read_manifest
from asr.corpus.spoken import build as spoken
from asr.corpus.spoken.grammar import part_of
from asr.corpus.spoken.sentences import digest, from_texts
from asr.corpus.spoken.settings import PARTS, Spoken
from asr.errors import AsrError


def book(path: Path, lines: int = 300) -> str:
    nouns = ("ship", "river", "lantern", "garden", "letter", "window", "captain", "meadow")
    text = "".join(
        f"The {nouns[i % 8]} of the {nouns[i // 8 % 8]} was seen by {nouns[i // 64 % 8]} men.\n"
        for i in range(lines)
    )
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return str(path)


def test_every_sentence_is_in_exactly_one_part(tmp_path):
    file = book(tmp_path / "book.txt")
    parts = [list(from_texts([file], part, 1)) for part in PARTS]
    everything = [text for part in parts for text in part]
    assert len(everything) == len(set(everything)) == 300
    assert "THE SHIP OF THE RIVER WAS SEEN BY SHIP MEN" in everything


def test_lines_that_cannot_be_spoken_or_are_too_long_are_left_out(tmp_path):
    lines = ["Chapter 12 of the book", "Too short", "word " * 25, "it was a fine day for a walk"]
    file = tmp_path / "lines.txt"
    file.write_text("\n".join(lines * 2))
    part = part_of("IT WAS A FINE DAY FOR A WALK")
    assert list(from_texts([str(file)], part, 1)) == ["IT WAS A FINE DAY FOR A WALK"]
    with pytest.raises(AsrError, match="no line to speak"):
        list(from_texts([str(file)], next(other for other in PARTS if other != part), 1))


def test_the_order_depends_on_the_seed(tmp_path):
    file = book(tmp_path / "book.txt.gz")
    first, again, other = (list(from_texts([file], "train", seed)) for seed in (1, 1, 2))
    assert first == again != other
    assert sorted(first) == sorted(other)


def test_a_corpus_speaks_the_text_and_another_text_gets_another_folder(tmp_path):
    file = book(tmp_path / "book.txt")
    settings = Spoken(text=[file], train_hours=0.004, dev_hours=0.002, test_hours=0.002)
    manifest = spoken.ensure("dev", settings, tmp_path)
    sentences = set(from_texts([file], "dev", 1))
    assert {u.text for u in read_manifest(manifest)} <= sentences
    assert json.loads((manifest.parent / "spoken.json").read_text())["text"] == digest([file])
    (tmp_path / "other").mkdir()
    other = Spoken(text=[book(tmp_path / "other" / "book.txt", 200)])
    assert spoken.folder_of(other, tmp_path) != manifest.parent


def test_text_that_ends_before_the_hours_are_full_is_an_error(tmp_path):
    file = book(tmp_path / "book.txt", 40)
    settings = Spoken(text=[file], train_hours=1, dev_hours=0.03, test_hours=1)
    with pytest.raises(AsrError, match=r"sentences for the part dev, fewer than its 0\.03 hours"):
        spoken.ensure("dev", settings, tmp_path)
    assert not list(tmp_path.rglob("*.partial"))


def test_a_missing_text_is_named(tmp_path):
    with pytest.raises(AsrError, match=r"missing\.txt: cannot read the text"):
        spoken.ensure("dev", Spoken(text=[str(tmp_path / "missing.txt")]), tmp_path)
