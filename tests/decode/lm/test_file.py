"""The binary form of language models: round trip, size, speed of opening, damage."""

import json
import time
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from decoding_data import SENTENCES, small_model

from asr.decode.lm import file as lm_file
from asr.decode.lm.build import build_model
from asr.decode.lm.file import write_lm
from asr.decode.lm.model import ARRAYS, LanguageModel, perplexity
from asr.decode.lm.open import open_lm
from asr.decode.lm.train import number_words, train_ngrams
from asr.errors import AsrError
from asr.pretrained import registry

WEIGHTS = ("logs", "backoffs", "prefix_logs")


def pruned(order: int) -> LanguageModel:
    """A model of random text, pruned so that some n-grams own no state and some states no arc."""
    random = np.random.default_rng(order)
    words = random.zipf(1.4, (3000, 9)) % 90
    sentences = [" ".join(f"W{word}" for word in row) for row in words]
    return build_model(train_ngrams(number_words(sentences), order, (1,), prune=1e-6).ngrams)


@pytest.mark.parametrize("order", [1, 2, 3, 4, 5])
def test_structure_comes_back_as_it_was_and_weights_within_half_a_step(order, tmp_path):
    ours = pruned(order)
    write_lm(tmp_path / "m.lm", ours)
    again = open_lm(tmp_path / "m.lm")
    assert (again.counts, again.bos, again.eos) == (ours.counts, ours.bos, ours.eos)
    for name, kind in ARRAYS.items():
        there, was = getattr(again, name), getattr(ours, name)
        assert there.dtype == kind
        if name in WEIGHTS:
            spread = np.ptp(was if name == "backoffs" else np.delete(ours.logs, ours.bos))
            assert np.abs(there - was).max(initial=0) <= 0.51 * spread / 255 + 1e-4
        else:
            assert np.array_equal(there, was)
    text = [" ".join(f"W{w}" for w in row) for row in np.arange(400).reshape(-1, 8) % 95]
    assert perplexity(again, text).with_unknown == pytest.approx(
        perplexity(ours, text).with_unknown, rel=0.01
    )


def test_a_file_is_a_quarter_of_the_arrays_in_memory(tmp_path):
    model = pruned(3)
    write_lm(tmp_path / "small.lm", model)
    in_memory = sum(getattr(model, name).nbytes for name in ARRAYS)
    assert (tmp_path / "small.lm").stat().st_size < in_memory / 4


def test_a_million_ngrams_open_in_half_a_second():
    """The package's language model has 2.3 million; `asr lm info` prints the time of others."""
    path = registry.find("english").lm
    seconds = []
    for _ in range(3):
        started = time.process_time()
        model = open_lm(path)
        seconds.append(time.process_time() - started)
    assert min(seconds) < 0.5 * sum(model.counts) / 1e6


def test_a_file_of_an_older_version_is_refused_with_what_to_do(tmp_path):
    (tmp_path / "old.lm").write_bytes(b"ASRLM\x001\n" + bytes(100))
    with pytest.raises(AsrError, match=r"old\.lm: .* older version; convert the ARPA file again"):
        open_lm(tmp_path / "old.lm")


def test_a_model_of_few_words_is_written_too(tmp_path):
    write_lm(tmp_path / "m.lm", small_model())
    again = open_lm(tmp_path / "m.lm")
    for sentence in SENTENCES:
        was = small_model().sentence(sentence)
        assert [s for s, _ in again.sentence(sentence)] == pytest.approx(
            [s for s, _ in was], abs=0.05
        )


@pytest.fixture
def path(tmp_path) -> Path:
    write_lm(tmp_path / "m.lm", small_model())
    return tmp_path / "m.lm"


def test_every_changed_byte_is_found(path):
    content = path.read_bytes()
    for place in range(0, len(content), 41):
        damaged = bytearray(content)
        damaged[place] ^= 0x40
        path.write_bytes(damaged)
        with pytest.raises(AsrError, match=r"m\.lm"):
            open_lm(path)


@pytest.mark.parametrize("size", [0, 5, 8, 12, 100, -1, -200])
def test_a_truncated_file_is_refused(path, size):
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(AsrError, match=r"m\.lm"):
        open_lm(path)


def rewritten(path: Path, change) -> None:
    """The file with its header changed by `change` and with correct checksums."""
    reader = lm_file._Unpacker(path.read_bytes())
    arrays = {name: reader.array(name).copy() for name in reader.header["arrays"]}
    change(reader.header, arrays)
    packed = lm_file._Packer()
    for name, array in arrays.items():
        packed.add(name, array)
        packed.entries[name] |= {
            k: v
            for k, v in reader.header["arrays"][name].items()
            if k in ("planes", "count") or v == np.inf
        }
    header = json.dumps(reader.header | {"arrays": packed.entries}).encode()
    start = lm_file._PREFIX.pack(lm_file.MAGIC, len(header), zlib.crc32(header))
    path.write_bytes(start + header + b"".join(packed.blobs))


def _set(name, value):
    return lambda header, arrays: arrays[name].__setitem__(slice(None), value)


@pytest.mark.parametrize(
    "change",
    [
        _set("places2", 255),
        _set("places3", 255),
        _set("degrees2", 200),
        _set("owns2", 255),
        _set("vocabulary", 65),
        _set("vocabulary", 255),
        lambda header, arrays: header.update(bos=-1),
        lambda header, arrays: header.update(eos=10**6),
        lambda header, arrays: header.update(counts=[5]),
        lambda header, arrays: header.update(counts=[]),
        lambda header, arrays: header.update(counts=[10**12, 1]),
        lambda header, arrays: header.update(counts=[1e999, 1]),
        lambda header, arrays: header.update(bos=1e999),
        lambda header, arrays: header.update(ranges={}),
        lambda header, arrays: header.update(unknown_log=-1e999),
        lambda header, arrays: header.update(unknown_log="low"),
        lambda header, arrays: header["ranges"].update(logs2=[0.0, 1e999]),
        lambda header, arrays: header["ranges"].update(logs2=[0.0, 10**400]),
        lambda header, arrays: header["arrays"]["logs2"].update(offset=1e999),
        lambda header, arrays: header["arrays"]["logs2"].update(count=1e999),
        lambda header, arrays: header["arrays"]["logs2"].update(count=10**15),
        lambda header, arrays: header["arrays"]["logs2"].update(count=3),
        lambda header, arrays: header["arrays"]["places2"].update(planes=9),
        lambda header, arrays: header["arrays"]["places2"].update(planes=0),
        lambda header, arrays: header["arrays"]["places2"].update(planes="a"),
    ],
)
def test_a_hostile_file_with_right_checksums_is_refused(path, change):
    rewritten(path, lambda header, arrays: None)
    assert open_lm(path).order == small_model().order
    rewritten(path, change)
    with pytest.raises(AsrError, match=r"m\.lm"):
        open_lm(path)


def test_a_header_nested_without_end_is_refused(path):
    header = b"[" * 200_000
    path.write_bytes(lm_file._PREFIX.pack(lm_file.MAGIC, len(header), zlib.crc32(header)) + header)
    with pytest.raises(AsrError, match=r"m\.lm"):
        open_lm(path)


def test_a_model_without_the_last_words_of_an_n_gram_is_refused(tmp_path):
    model = pruned(2)
    words = model.words.copy()
    words[model.size :] = model.size  # not a word
    with pytest.raises(AsrError, match="no binary form"):
        write_lm(tmp_path / "m.lm", replace(model, words=words))
    assert not (tmp_path / "m.lm").exists()


def write_arpa(path: Path, unigrams: str, bigrams: str = "-0.3 A B\n-0.4 A C\n") -> Path:
    """An ARPA file of the words A, B and C and some more lines of unigrams."""
    lines = f"-99 <s> -0.2\n-1.5 </s>\n-1 A -0.3\n-2 B\n-7 C\n{unigrams}"
    counts = f"\\data\\\nngram 1={lines.count(chr(10))}\nngram 2={bigrams.count(chr(10))}\n"
    path.write_text(f"{counts}\n\\1-grams:\n{lines}\n\\2-grams:\n{bigrams}\n\\end\\\n")
    return path


@pytest.mark.parametrize("unknown", ["", "-100 <unk>\n", "-30 <unk>\n", "-6 <unk>\n"])
def test_an_unknown_far_below_all_words_does_not_widen_their_steps(tmp_path, unknown):
    ours = open_lm(write_arpa(tmp_path / "m.arpa", unknown))
    write_lm(tmp_path / "m.lm", ours)
    again = open_lm(tmp_path / "m.lm")
    spread = np.log(10.0) * 6  # of A, B, C
    assert np.abs(again.logs - ours.logs)[: ours.size].max() <= 0.51 * spread / 255
    far = float(unknown.split()[0] if unknown else -100) * np.log(10.0)
    if far < -20:
        assert again.logs[again.unknown] == np.float32(far)


@pytest.mark.parametrize(
    ("unigrams", "bigrams"),
    [
        ("-99999 D\n", "-0.3 A B\n"),
        ("-inf D\n", "-0.3 A B\n"),
        ("-99999 <unk>\n", "-0.3 A B\n"),
        ("-inf <unk>\n", "-0.3 A B\n"),
        ("-1 D -inf\n", "-0.3 A B\n-0.3 D B\n"),
        ("-1 D\n", "-99999 A B\n"),
    ],
)
def test_what_could_not_be_read_back_is_not_written(tmp_path, unigrams, bigrams):
    model = open_lm(write_arpa(tmp_path / "m.arpa", unigrams, bigrams))
    with pytest.raises(AsrError, match=r"of its [12]-grams lie from .* \(log10"):
        write_lm(tmp_path / "m.lm", model)
    assert not (tmp_path / "m.lm").exists()


@pytest.mark.parametrize("place", ["unigram", "unknown", "bigram", "backoff"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_weight_that_is_not_a_number_is_not_written(tmp_path, place, value):
    model = small_model()
    name = "backoffs" if place == "backoff" else "logs"
    weights = getattr(model, name).copy()
    size = model.size
    at = {"unigram": size - 1, "unknown": model.unknown, "bigram": size, "backoff": 1}[place]
    weights[at] = value
    with pytest.raises(AsrError, match=r"of its [12]-grams lie from .* \(log10"):
        write_lm(tmp_path / "m.lm", replace(model, **{name: weights}))
    assert not (tmp_path / "m.lm").exists()


def test_a_file_stays_as_it_was_if_its_new_model_is_refused(path):
    before = path.read_bytes()
    backoffs = small_model().backoffs.copy()
    backoffs[1] = -np.inf
    with pytest.raises(AsrError, match="back-off weights"):
        write_lm(path, replace(small_model(), backoffs=backoffs))
    assert path.read_bytes() == before


def test_the_model_of_the_package_comes_back_byte_by_byte(tmp_path):
    english = registry.find("english").lm
    write_lm(tmp_path / "m.lm", open_lm(english))
    assert (tmp_path / "m.lm").read_bytes() == english.read_bytes()
