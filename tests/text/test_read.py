"""Sentences from text files and manifests: every kind of file, and errors in them."""

import gzip
import json
import lzma
from pathlib import Path

import pytest
from decoding_data import SENTENCES
from hypothesis import given, settings
from hypothesis import strategies as st

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


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.txt").write_text("good\n")
    assert list(read_sentences(["~/a.txt"])) == ["GOOD"]


def test_texts_that_cannot_be_read_are_named(tmp_path):
    (tmp_path / "latin.txt").write_bytes(b"GOOD\nCAF\xc9\n")
    (tmp_path / "bad.jsonl").write_text('{"text": "A"}\n\n{"txt": "B"}\n')
    (tmp_path / "half.jsonl").write_text('{"text": "A"}\n{"text"\n')
    (tmp_path / "short.gz").write_bytes(gzip.compress(b"A\n" * 1000)[:-9])
    for name, fragment in (
        ("latin.txt", ":2: not UTF-8"),
        ("short.gz", "damaged"),
        ("bad.jsonl", r'bad\.jsonl:3: "text" must be what is said'),
        ("half.jsonl", r"half\.jsonl:2: not JSON"),
        ("no", "no"),
    ):
        with pytest.raises(AsrError, match=fragment):
            list(read_sentences([tmp_path / name]))


NOT_UTF8 = {
    "Latin-1": ("GOOD\nCAF\xc9\n".encode("latin-1"), ":2: not UTF-8 .byte 4"),
    "UTF-16": ("GOOD\n".encode("utf-16"), ":1: the file is in UTF-16"),
    "UTF-16 without a mark": ("GOOD\n".encode("utf-16-le"), ":1: zero bytes"),
    "UTF-32": ("GOOD\n".encode("utf-32"), ":1: the file is in UTF-32"),
    "half a character at the end": ("GOOD\n\u2019".encode()[:-1], ":2: not UTF-8"),
    "a sound": (b"RIFF\x24\0\0\0WAVEfmt ", ":1: zero bytes"),
}


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.gz"])
@pytest.mark.parametrize(("content", "fragment"), NOT_UTF8.values(), ids=NOT_UTF8)
def test_a_text_that_is_not_utf8_is_named_with_its_line(content, fragment, name, tmp_path):
    if name == "a.jsonl":
        content = content.replace(b"GOOD\n", b'{"text": "GOOD"}\n')
    path = tmp_path / name
    path.write_bytes(gzip.compress(content) if name == "a.gz" else content)
    with pytest.raises(AsrError, match=rf"{name}{fragment}"):
        list(read_sentences([path]))


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl"])
def test_a_byte_order_mark_is_not_part_of_the_text(name, tmp_path):
    line = "GOOD" if name == "a.txt" else '{"text": "GOOD"}'
    (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + line.encode() + b"\n")
    assert [line.strip() for line in read_sentences([tmp_path / name])] == ["GOOD"]


@pytest.mark.parametrize(
    ("line", "fragment"),
    [
        ("[1]", "not a JSON object"),
        ('{"text": 1}', '"text" must be'),
        ('{"text": "A\\ud83d"}', "half a character"),
        ('{"text": "A", "duration": ' + "9" * 5000 + "}", "not JSON that can be read"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_a_line_of_a_manifest_that_cannot_be_read_is_named(line, fragment, tmp_path):
    (tmp_path / "m.jsonl").write_text('{"text": "A"}\n' + line + "\n")
    with pytest.raises(AsrError, match=rf"m\.jsonl:2: .*{fragment}"):
        list(read_sentences([tmp_path / "m.jsonl"]))


@settings(max_examples=200, deadline=None)
@given(place=st.integers(0, 10**6), value=st.integers(0, 255), cut=st.booleans())
@pytest.mark.parametrize("compress", [gzip.compress, lzma.compress], ids=["gzip", "xz"])
def test_damaged_compressed_texts_are_refused_or_read_whole(
    compress, place, value, cut, tmp_path_factory
):
    content = bytearray(compress("".join(f"{sentence}\n" for sentence in SENTENCES).encode()))
    if cut:
        del content[place % len(content) :]
    else:
        content[place % len(content)] = value
    path = tmp_path_factory.mktemp("text") / "a.txt.gz"
    path.write_bytes(content)
    try:
        found = [sentence.strip() for sentence in read_sentences([path])]
    except AsrError as error:
        found = str(error)
    assert len(content) < 2 or "a.txt.gz" in found or found == SENTENCES
