"""Sentences from text files and manifests: every kind of file, and errors in them."""

import gzip
import json
import lzma
from pathlib import Path

import pytest
from decoding_data import SENTENCES

from asr.errors import AsrError
from asr.text.normalise import normalise
from asr.text.read import read_sentences


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
def test_the_shortcut_for_plain_lines_gives_the_same_as_normalising(line, tmp_path):
    (tmp_path / "a.txt").write_text(line + "\n")
    (sentence,) = read_sentences([tmp_path / "a.txt"])
    assert sentence.split() == normalise(line).split()


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
