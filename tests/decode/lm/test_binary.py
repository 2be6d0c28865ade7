"""The binary form of language models: round trip, speed of opening, damage."""

import json
import struct
import time
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from decoding import SENTENCES, small_model

from asr.decode.lm import binary
from asr.decode.lm.model import ARRAYS, LanguageModel
from asr.decode.lm.open import open_lm
from asr.errors import AsrError


@pytest.fixture
def path(tmp_path) -> Path:
    binary.write(tmp_path / "m.lm", small_model())
    return tmp_path / "m.lm"


def test_a_model_survives_being_written_and_read(path):
    ours, again = small_model(), open_lm(path)
    assert again.counts == ours.counts
    for name, kind in ARRAYS.items():
        assert getattr(again, name).dtype == kind
        assert np.array_equal(getattr(again, name), getattr(ours, name))
    for sentence in (*SENTENCES, "A ZEBRA RAN"):
        assert again.sentence(sentence) == ours.sentence(sentence)


def test_a_file_is_mapped_and_not_to_be_changed(path):
    with pytest.raises(ValueError, match="read-only"):
        open_lm(path).logs[0] = 0.0


def test_every_changed_byte_is_found(path):
    content = path.read_bytes()
    places = {*range(0, len(content), 97), len(content) - 1}
    header_end = 16 + struct.unpack_from("<I", content, 8)[0]
    header = json.loads(content[16:header_end])
    used = set(range(header_end))
    for name, entry in header["arrays"].items():
        size = entry["count"] * np.dtype(ARRAYS[name]).itemsize
        used |= set(range(header_end + entry["offset"], header_end + entry["offset"] + size))
    for place in sorted(places & used):
        damaged = bytearray(content)
        damaged[place] ^= 0x40
        path.write_bytes(damaged)
        with pytest.raises(AsrError):
            open_lm(path)


@pytest.mark.parametrize("size", [0, 5, 12, 100, -200])
def test_a_file_cut_short_is_refused(path, size):
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(AsrError):
        open_lm(path)


def crafted(path: Path, model: LanguageModel) -> None:
    binary.write(path, model)


@pytest.mark.parametrize(
    ("name", "place", "value", "fragment"),
    [
        ("nexts", 3, 10_000, "out of range"),
        ("words", -1, 10_000, "out of range"),
        ("words", 0, 1, "every word has an arc"),
        ("first", 2, 4_000_000_000, "not rising"),
        ("lowers", 1, 1, "not falling"),
        ("hash_words", 0, 10_000, "out of range"),
        ("hashes", 0, 2**64 - 1, "not rising"),
        ("prefixes", 0, 2**64 - 1, "not rising"),
        ("logs", 0, np.nan, "not finite"),
    ],
)
def test_a_well_packed_file_with_hostile_numbers_is_refused(
    name, place, value, fragment, path, monkeypatch
):
    monkeypatch.setattr(binary, "_refuse_scores", lambda model: None)
    array = getattr(small_model(), name).copy()
    array[place] = value
    crafted(path, replace(small_model(), **{name: array}))
    with pytest.raises(AsrError, match=fragment):
        open_lm(path)


def test_a_model_with_endless_scores_is_not_written(path):
    backoffs = small_model().backoffs.copy()
    backoffs[1] = -np.inf
    before = path.read_bytes()
    with pytest.raises(AsrError, match="not a finite number"):
        binary.write(path, replace(small_model(), backoffs=backoffs))
    assert path.read_bytes() == before


def with_header(path: Path, change) -> None:
    """The file with its header changed by `change`, which may give other bytes instead."""
    content = path.read_bytes()
    length = struct.unpack_from("<I", content, 8)[0]
    header = json.loads(content[16 : 16 + length])
    changed = change(header) or json.dumps(header).encode()
    prefix = struct.pack("<8sII", binary.MAGIC, len(changed), zlib.crc32(changed))
    path.write_bytes(prefix + changed + content[16 + length :])


def test_a_header_that_points_outside_is_refused(path):
    with_header(path, lambda header: header["arrays"]["logs"].update(count=2**40))
    with pytest.raises(AsrError, match="cut short"):
        open_lm(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda header: header.update(bos=1e999),
        lambda header: header.update(counts=[1e999]),
        lambda header: header["arrays"]["logs"].update(count=1e999),
        lambda header: header["arrays"]["logs"].update(offset=1e999),
        lambda header: header.update(arrays=[]),
        lambda header: b"[" * 200_000,
    ],
)
def test_a_hostile_header_is_refused(path, change):
    with_header(path, change)
    with pytest.raises(AsrError, match=r"m\.lm: not a language model of ours"):
        open_lm(path)


def test_a_million_ngrams_open_in_half_a_second(path):
    """Opening reads every byte once for its checksum; see `asr lm info` for real models."""
    model = small_model()
    size, more = model.size, 1_000_000
    # A state with very many arcs over words of the same few: only its size matters here.
    words = np.sort(np.arange(more) % size).astype(np.uint32)
    first = np.append(model.first, len(model.words) + more).astype(np.uint32)
    crafted(
        path,
        replace(
            model,
            first=first,
            backoffs=np.append(model.backoffs, 0).astype(np.float32),
            lowers=np.append(model.lowers, 0).astype(np.uint32),
            words=np.append(model.words, words),
            logs=np.append(model.logs, np.zeros(more)).astype(np.float32),
            nexts=np.append(model.nexts, np.zeros(more)).astype(np.uint32),
        ),
    )
    started = time.perf_counter()
    open_lm(path)
    assert time.perf_counter() - started < 0.5
