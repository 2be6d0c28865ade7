"""The binary form of language models: small, and fast to open.

    8 bytes   magic
    4 + 4     length and CRC-32 of the header, little endian
    header    JSON: counts, special words, ranges, and place, bytes, count, CRC-32 of every array
    arrays    one after the other, each compressed by zlib

An n-gram takes about 2 bytes in the file and 15 in memory, which processes do not share: opening
unpacks the file. 2.3 million n-grams are a file of 4.9 MB that opens in 0.1 to 0.5 s into 34 MiB.

Nothing is stored that can be computed. The last n-1 words of an n-gram are an n-gram of the model
too: an arc of the lower state of the n-gram's context. So an n-gram is stored as the place of that
arc among the arcs of its state, which gives the last word and, where the n-gram has no state of
its own, the next state. For example, A B C is an arc of state "A B", and B C is the third arc of
the lower state "B": the number 2 is stored. A state's own lower state is the one that this arc
leads to. Places are stored as differences, their bytes of equal weight together.

The arrays are `vocabulary` and the logarithms `logs1` of the words; then for every order n from 2:

    owns      a bit for each (n-1)-gram: has it a state of its own?
    backoffs  back-off weights of these states
    degrees   number of arcs of these states
    places    of the arcs, as above
    logs      of the arcs

Logarithms are one of 256 evenly spaced values for each order, so a probability is off by at most
half a step: 0.03 nats in practice, and no codebook has to be fitted. An <unk> far below all words,
such as the log10 of -100 where an ARPA file lists none, would widen the steps: it is stored as it
is, in the header.
"""

import json
import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from asr.decode.lm.build import hash_vocabulary
from asr.decode.lm.check import DAMAGE, check_model
from asr.decode.lm.model import LanguageModel
from asr.errors import AsrError
from asr.files import atomic_path

MAGIC = b"ASRLM\x002\n"
_PREFIX = struct.Struct("<8sII")
_NUMBERS = ("bos", "eos", "unknown")
_UNKNOWN_LOG = "unknown_log"
"""Log probability of <unk>, in the header of a model where it is far below all words."""
_NEVER = -99.0 * np.log(10.0)
"""Log probability of <s>, which no search asks for; it would widen the range of the others."""
_LEVELS = 255
_FARTHEST = 1e4
"""Logarithms must be nearer to 0 than this, as those of any real text are."""
_DENSEST = 1040
"""zlib compresses at most 1032 bytes into one: no header can ask for more memory than that."""

Indices = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.uint32]
Floats = npt.NDArray[np.float32]


def write_lm(path: str | Path, model: LanguageModel) -> None:
    """Write `model` to `path`, whole or not at all.

    Raises AsrError for a model that lacks the last words of one of its n-grams as an n-gram, as
    the pruning of some other programs leaves it, and for logarithms beyond +-10000 or not finite.
    """
    packed = _Packer()
    packed.add("vocabulary", model.vocabulary)
    logs, unknown = _unigrams(model)
    packed.add_weights("logs1", logs)
    starts = np.cumsum([0, *model.counts])
    first, lowers, nexts = (_wide(getattr(model, n)) for n in ("first", "lowers", "nexts"))
    degrees = np.diff(first)
    begin, end = 0, 1  # states whose context has one word less than the n-grams of the order
    for order in range(2, model.order + 1):
        arcs = nexts[starts[order - 2] : starts[order - 1]]
        begin, end = end, end + int((arcs >= end).sum())
        packed.add(f"owns{order}", np.packbits(arcs >= begin))
        packed.add_weights(f"backoffs{order}", model.backoffs[begin:end])
        packed.add_numbers(f"degrees{order}", degrees[begin:end])
        below = np.repeat(lowers[begin:end], degrees[begin:end])
        here = slice(starts[order - 1], starts[order])
        places = _suffixes(model, below, _wide(model.words[here])) - first[below]
        packed.add_numbers(f"places{order}", _differences(places, degrees[begin:end]))
        packed.add_weights(f"logs{order}", model.logs[here])
    header = {
        "counts": model.counts,
        **{name: int(getattr(model, name)) for name in _NUMBERS},
        **unknown,
        "ranges": packed.ranges,
        "arrays": packed.entries,
    }
    content = json.dumps(header).encode()
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write(_PREFIX.pack(MAGIC, len(content), zlib.crc32(content)))
        file.write(content)
        file.writelines(packed.blobs)


def _unigrams(model: LanguageModel) -> tuple[Floats, dict[str, float]]:
    """Log probabilities of all words as they are packed, and the header's entry for <unk>.

    <s> gets the lowest of the others, and so does an <unk> that is far below them.
    """
    logs = model.logs[: model.size].copy()
    logs[model.bos] = logs[np.arange(model.size) != model.bos].min(initial=0.0)
    words = np.delete(logs, [model.bos, model.unknown])
    unknown = float(logs[model.unknown])
    # Otherwise the range would be more than twice as wide, and every step with it.
    if not len(words) or unknown >= 2 * float(words.min()) - float(words.max()):
        return logs, {}
    if not unknown > -_FARTHEST:
        raise _too_far("logs1", unknown, unknown)
    logs[[model.bos, model.unknown]] = words.min()
    return logs, {_UNKNOWN_LOG: unknown}


def _too_far(name: str, low: float, high: float) -> AsrError:
    kind = "back-off weights" if name.startswith("backoffs") else "log probabilities"
    ten = np.log(10.0)
    return AsrError(
        f"language model: {kind} of its {name[-1]}-grams lie from {low / ten:.6g} to "
        f"{high / ten:.6g} (log10, as in ARPA); the binary form takes those within "
        f"+-{_FARTHEST / ten:.0f}: correct them where the model was made"
    )


@dataclass
class _Packer:
    """Compresses arrays one after the other, with their entries for the header."""

    blobs: list[bytes] = field(default_factory=list)
    entries: dict[str, dict[str, int]] = field(default_factory=dict)
    ranges: dict[str, list[float]] = field(default_factory=dict)

    def add(self, name: str, array: npt.NDArray[np.uint8]) -> None:
        blob = zlib.compress(array.tobytes(), 9)
        offset = sum(map(len, self.blobs))
        self.entries[name] = {
            "offset": offset,
            "bytes": len(blob),
            "count": len(array),
            "crc": zlib.crc32(blob),
        }
        self.blobs.append(blob)

    def add_numbers(self, name: str, numbers: Indices) -> None:
        planes = numbers.astype("<u4").view(np.uint8).reshape(-1, 4).T
        used = -(-int(numbers.max(initial=1)).bit_length() // 8)  # above these all are zero
        self.add(name, np.ascontiguousarray(planes[:used]).reshape(-1))
        self.entries[name]["planes"] = used

    def add_weights(self, name: str, weights: Floats) -> None:
        low, high = (float(weights.min()), float(weights.max())) if len(weights) else (0.0, 0.0)
        if not -_FARTHEST < low <= high < _FARTHEST:
            raise _too_far(name, low, high)
        self.ranges[name] = [low, high]
        scaled = (weights.astype(np.float64) - low) * (_LEVELS / ((high - low) or 1.0))
        self.add(name, np.rint(scaled).astype(np.uint8))


def _wide(array: npt.NDArray[Any]) -> Indices:
    return array.astype(np.int64)


def _suffixes(model: LanguageModel, states: Indices, words: Indices) -> Indices:
    """The arc of each word in each state."""
    of_arcs = np.repeat(np.arange(len(model.lowers)), np.diff(_wide(model.first)))
    keys = of_arcs * model.size + _wide(model.words)
    queries = states * model.size + words
    places = np.minimum(np.searchsorted(keys, queries), len(keys) - 1)
    if (keys[places] != queries).any():
        raise AsrError(
            "language model: the last words of one of its n-grams are not an n-gram of it, so it "
            "has no binary form; use the ARPA file as it is"
        )
    return places


def _differences(places: Indices, degrees: Indices) -> Indices:
    """Each place minus the one before it in the same state."""
    differences = np.diff(places, prepend=0)
    firsts = _firsts(degrees)
    differences[firsts] = places[firsts]
    return differences


def _firsts(degrees: npt.NDArray[Any]) -> Indices:
    """First arc of each state that has arcs."""
    return (np.cumsum(degrees, dtype=np.int64) - degrees)[degrees > 0]


def read_lm(path: str | Path) -> LanguageModel:
    """The model of a file that `write_lm` wrote. Raises AsrError for a damaged or another file."""
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise AsrError(f"{path}: cannot read the language model: {error.strerror}") from None
    try:
        model = _unpack(_Unpacker(content))
        check_model(model)
    except (*DAMAGE, zlib.error) as error:
        raise AsrError(
            f"{path}: not a language model in binary form, or a damaged one ({error}); "
            "`asr lm convert` makes one from an ARPA file"
        ) from None
    return model


class _Unpacker:
    """Decompresses the arrays of a file and checks them against its header."""

    def __init__(self, content: bytes) -> None:
        magic, length, crc = _PREFIX.unpack_from(content)
        self._start = _PREFIX.size + length
        header = content[_PREFIX.size : self._start]
        if magic != MAGIC:
            raise ValueError("another kind of file")
        if len(header) != length or zlib.crc32(header) != crc:
            raise ValueError("its header is damaged")
        self._content = content
        self.header: dict[str, Any] = json.loads(header)

    def array(self, name: str) -> npt.NDArray[np.uint8]:
        entry = self.header["arrays"][name]
        begin, size, count = self._start + int(entry["offset"]), int(entry["bytes"]), entry["count"]
        blob = self._content[begin : begin + size]
        if begin < self._start or len(blob) != size or zlib.crc32(blob) != entry["crc"]:
            raise ValueError(f"{name}: truncated, or its checksum differs")
        if not 0 <= count <= _DENSEST * size:
            raise ValueError(f"{name}: an impossible size")
        unpacked = zlib.decompressobj().decompress(blob, count + 1)
        if len(unpacked) != count:
            raise ValueError(f"{name}: not of the size that the header gives")
        return np.frombuffer(unpacked, np.uint8)

    def numbers(self, name: str) -> Numbers:
        planes = self.array(name).reshape(self.header["arrays"][name]["planes"], -1)
        numbers = np.zeros((planes.shape[1], 4), np.uint8)
        numbers[:, : len(planes)] = planes.T
        return numbers.view("<u4").reshape(-1).astype(np.uint32, copy=False)

    def weights(self, name: str) -> Floats:
        low, high = map(float, self.header["ranges"][name])
        if not -_FARTHEST < low <= high < _FARTHEST:
            raise ValueError(f"{name}: an impossible range")
        values = low + np.arange(_LEVELS + 1) * ((high - low) / _LEVELS)
        return values.astype(np.float32)[self.array(name)]


def _unpack(file: _Unpacker) -> LanguageModel:
    """The model, order by order: each needs the arrays of the order below."""
    counts = tuple(map(int, file.header["counts"]))
    special = {name: int(file.header[name]) for name in _NUMBERS}
    vocabulary = file.array("vocabulary")
    spellings = vocabulary.tobytes().decode().split("\n")[:-1]
    size = len(spellings)
    unigrams = file.weights("logs1")
    _require_equal("logs1", len(unigrams), size)
    _require_equal("counts", counts[0] if counts else 0, size)
    unigrams[special["bos"]] = _NEVER
    if _UNKNOWN_LOG in file.header:
        unknown = float(file.header[_UNKNOWN_LOG])
        if not -_FARTHEST < unknown < _FARTHEST:
            raise ValueError(f"{_UNKNOWN_LOG}: impossible")
        unigrams[special["unknown"]] = unknown
    arcs = _Arcs(np.arange(size, dtype=np.uint32), np.zeros(size, np.uint32), unigrams)
    first, lowers = np.array([0, size], np.uint32), np.zeros(1, np.uint32)
    backoffs = np.zeros(1, np.float32)
    here = slice(0, size)  # the arcs of the order below
    for order in range(2, len(counts) + 1):
        owns = np.flatnonzero(np.unpackbits(file.array(f"owns{order}"), count=counts[order - 2]))
        owns += here.start
        states = len(lowers)
        lowers = np.concatenate([lowers, arcs.nexts[owns]])
        arcs.nexts[owns] = np.arange(states, len(lowers), dtype=np.uint32)
        degrees = file.numbers(f"degrees{order}")
        _require_equal(f"degrees{order}", len(degrees), len(lowers) - states)
        backoffs = np.concatenate([backoffs, file.weights(f"backoffs{order}")])
        _require_equal(f"backoffs{order}", len(backoffs), len(lowers))
        suffixes = _read_suffixes(file, order, degrees, first, lowers[states:], counts[order - 1])
        logs = file.weights(f"logs{order}")
        _require_equal(f"logs{order}", len(logs), len(suffixes))
        here = slice(len(arcs.words), len(arcs.words) + len(suffixes))
        arcs = arcs.extended(suffixes, logs)
        first = np.concatenate([first, first[-1] + np.cumsum(degrees, dtype=np.uint32)])
    hashes, prefixes, prefix_logs = hash_vocabulary(spellings, unigrams)
    by_hash = np.argsort(hashes)
    return LanguageModel(
        counts=counts,
        first=first,
        backoffs=backoffs,
        lowers=lowers,
        words=arcs.words,
        logs=arcs.logs,
        nexts=arcs.nexts,
        hashes=hashes[by_hash],
        hash_words=by_hash.astype(np.uint32),
        prefixes=prefixes,
        prefix_logs=prefix_logs,
        vocabulary=vocabulary,
        **special,
    )


@dataclass
class _Arcs:
    """The arcs of all orders so far."""

    words: Numbers
    nexts: Numbers
    logs: Floats

    def extended(self, suffixes: Numbers, logs: Floats) -> "_Arcs":
        """With the arcs of one more order, which lead where their suffixes lead for now."""
        words = np.concatenate([self.words, self.words[suffixes]])
        nexts = np.concatenate([self.nexts, self.nexts[suffixes]])
        return _Arcs(words, nexts, np.concatenate([self.logs, logs]))


def _read_suffixes(
    file: _Unpacker, order: int, degrees: Numbers, first: Numbers, lowers: Numbers, count: int
) -> Numbers:
    """For each n-gram of this order, the arc of its last n-1 words."""
    if int(degrees.sum(dtype=np.int64)) != count:
        raise ValueError(f"degrees{order}: not {count} arcs")
    if len(lowers) and int(lowers.max()) >= len(first) - 1:
        raise ValueError("a lower state is not of a lower order")
    running = np.cumsum(file.numbers(f"places{order}"), dtype=np.uint32)
    _require_equal(f"places{order}", len(running), count)
    firsts = _firsts(degrees)
    before = np.where(firsts > 0, running[firsts - 1], 0) if count else firsts
    # The running sum goes through all states; a state's places are the sum less what came before
    # it, and its arcs are these places from the lower state's first arc on. All is modulo 2**32.
    shift = np.zeros(len(degrees), np.uint32)
    shift[degrees > 0] = before
    running -= np.repeat(shift, degrees)
    if (running >= np.repeat(np.diff(first)[lowers], degrees)).any():
        raise ValueError(f"places{order}: beyond their state")
    running += np.repeat(first[lowers], degrees)
    return running


def _require_equal(name: str, found: int, expected: int) -> None:
    if found != expected:
        raise ValueError(f"{name}: {found} instead of {expected}")
