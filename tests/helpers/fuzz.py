"""Mutated model files: each must give an error for people or sound tensors, in bounded memory.

`python tests/helpers/fuzz.py` mutates for a while, guided by coverage if atheris is installed and
at random if not; `tests/sparse/test_fuzz.py` runs some hundred files. A string of bytes determines
a mutation. Lengths and checksums are repaired most of the time, so that readers get past them.
"""

import argparse
import copy
import faulthandler
import hashlib
import json
import random
import struct
import sys
import tempfile
import time
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import benchmark_scripts  # noqa: F401 (puts lib on the path)
import numpy as np
from lib.weights import random_tensors

from asr.errors import AsrError
from asr.features.settings import Frontend
from asr.model.dimensions import Model
from asr.model.info import describe
from asr.model.metadata import Metadata
from asr.sparse import CsrMatrix, read, read_csr, read_header, write
from asr.sparse.kernels import prepare
from asr.text.tokenizer import CharacterTokenizer
from asr.transcribe.recogniser import load

PREFIX = struct.Struct("<8sIQ32s")
VALUES: list[Any] = [
    *(None, True, False, 0, 1, -1, 2, 7, 16, 31, 32, 255, 2**16, 2**31, 2**40, 2**63, 10**30, 0.5),
    *("", "element", "bank", "block", "dense", "bitmask", "none", "deflate", "float16", "float32"),
    *(
        "int8",
        "int64",
        "asr.model.torch_network",
        "a" * 300,
        "\x00",
        "same_as",
        [],
        {},
        [0],
        [2**20, 2**20],
    ),
    *([16, 0], [0, 2**39], [1] * 9, [[1]], {"a": 1}),
]


class Bytes:
    """Reads choices from a string of bytes; zeros after its end."""

    def __init__(self, data: bytes) -> None:
        self.data, self.place = data, 0

    def number(self, below: int) -> int:
        """0 to `below` - 1."""
        size = max(1, ((below - 1).bit_length() + 7) // 8)
        part = self.data[self.place : self.place + size]
        self.place += size
        return int.from_bytes(part, "little") % max(below, 1)

    @property
    def left(self) -> bool:
        return self.place < len(self.data)


def originals(folder: Path) -> list[bytes]:
    """Small files with every encoding, pattern and type of values, and one of a real network."""
    generator = np.random.default_rng(0)
    found = []
    for values in ("fp32", "fp16", "int8"):
        scattered = generator.normal(0, 1, (24, 40)).astype(np.float32)
        scattered[np.abs(scattered) < 1.3] = 0
        blocks = generator.normal(0, 1, (32, 24)).astype(np.float32)
        blocks *= (generator.random((2, 24)) < 0.3).repeat(16, axis=0)
        banks = generator.normal(0, 1, (6, 70)).astype(np.float32)
        for row in banks:
            for bank in (row[:32], row[32:64], row[64:]):
                bank[generator.permutation(len(bank))[3:]] = 0
        tensors = {
            "element": scattered,
            "block": blocks,
            "tied": scattered,
            "bank": banks,
            "kernel": scattered.reshape(24, 2, 4, 5),
            "dense": generator.normal(0, 1, (5, 3)).astype(np.float32),
            "bias": generator.normal(0, 1, 24).astype(np.float32),
            "count": np.array(7, np.int64),
            "nothing": np.zeros((0, 3), np.float32),
        }
        for compress in (True, False):
            write(folder / "a.asr", tensors, {"kind": "test", "list": [1, {}]}, values, compress)
            found.append((folder / "a.asr").read_bytes())
    dimensions = Model(
        mels=8, conv_channels=[2], conv_kernels=[[3, 3]], conv_strides=[[2, 2]],
        hidden=16, layers=2, batch_norm=False,
    )  # fmt: skip
    metadata = Metadata(
        dimensions, Frontend(mels=8), CharacterTokenizer().to_plain(), packed="int8"
    )
    write(folder / "a.asr", random_tensors(dimensions), metadata.to_plain(), "int8")
    network = (folder / "a.asr").read_bytes()
    return [*found, network, network]


def mutated(data: bytes, files: list[bytes]) -> bytes:
    """One of the `files`, changed as `data` says."""
    choices = Bytes(data)
    content = files[choices.number(len(files))]
    size = PREFIX.unpack_from(content)[2]
    header = json.loads(content[PREFIX.size : PREFIX.size + size])
    payload = bytearray(content[PREFIX.size + size :])
    consistent = choices.number(8) != 0
    for _ in range(1 + choices.number(4) // 2):
        (_edit_header, _edit_header, _edit_payload, _edit_tensor)[choices.number(4)](
            choices, header, payload
        )
        if not choices.left:
            break
    if consistent:
        _repair(header, payload)
    text = json.dumps(header, separators=(",", ":")).encode()
    start = PREFIX.pack(b"ASRMODEL", 2, len(text), hashlib.sha256(text).digest())
    content = bytearray(start + text + payload)
    if choices.number(8) == 1:  # anywhere, prefix and checksums too
        content[choices.number(len(content))] ^= 1 << choices.number(8)
    if choices.number(16) == 1:
        del content[choices.number(len(content)) :]
    return bytes(content)


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) below a JSON value."""
    keys = value if isinstance(value, dict) else range(len(value))
    found = []
    for key in keys:
        found.append((value, key))
        if isinstance(value[key], dict | list):
            found += _places(value[key])
    return found


def _entries(header: Any) -> list[dict[str, Any]]:
    table = header.get("tensors")
    return [e for e in table if isinstance(e, dict)] if isinstance(table, list) else []


def _edit_header(choices: Bytes, header: Any, payload: bytearray) -> None:
    entries = _entries(header)
    inside = entries[choices.number(len(entries))] if entries and choices.number(2) else header
    places = _places(inside)
    if not places:
        return
    container, key = places[choices.number(len(places))]
    kind = choices.number(6)
    old = container[key]
    if kind == 0:
        del container[key]
    elif kind == 1 and isinstance(old, int):
        container[key] = old + (1, -1, 8, -8, 16, 4096)[choices.number(6)]
    elif kind == 2 and isinstance(old, list):
        old.extend(copy.deepcopy(old[:3]))
    elif kind == 3:
        container[key] = choices.number(2**32)
    else:
        container[key] = copy.deepcopy(VALUES[choices.number(len(VALUES))])


def _edit_payload(choices: Bytes, header: Any, payload: bytearray) -> None:
    if payload:
        place = choices.number(len(payload))
        for i in range(1 + choices.number(4)):
            payload[(place + i) % len(payload)] = choices.number(256)


def _edit_tensor(choices: Bytes, header: Any, payload: bytearray) -> None:
    """Another stream for one tensor, of a size that its entry may contradict."""
    if not (entries := _entries(header)):
        return
    entry = entries[choices.number(len(entries))]
    try:
        start, size = entry["offset"], entry["stored_bytes"]
        old = bytes(payload[start : start + size])
    except (TypeError, KeyError):
        return
    raw = bytes([choices.number(256)]) * choices.number(2**16)
    if choices.number(2) and entry.get("compression") == "deflate":
        try:
            raw = zlib.decompressobj(-15).decompress(old, 2**20)
        except zlib.error:
            raw = old
        raw = bytearray(raw or b"\0")
        for _ in range(1 + choices.number(3)):
            raw[choices.number(len(raw))] = choices.number(256)
    if choices.number(4):
        coder = zlib.compressobj(6, zlib.DEFLATED, -15)
        new = coder.compress(bytes(raw)) + coder.flush()
        entry["compression"] = "deflate"
    else:
        new = bytes(raw[: choices.number(4096)])
        entry["compression"] = "none"
        entry["raw_bytes"] = len(new)
    payload[start : start + size] = new
    entry["stored_bytes"] = len(new)


def _repair(header: Any, payload: bytearray) -> None:
    """Correct offsets and checksums, as an attacker who knows the format would."""
    offset = 0
    for entry in _entries(header):
        if "same_as" in entry:
            continue
        size = entry.get("stored_bytes")
        if type(size) is int and 0 <= size <= len(payload):
            entry["offset"] = offset
            entry["crc32"] = zlib.crc32(payload[offset : offset + size])
            offset += size


def check(content: bytes, path: Path) -> bool:
    """Read a file with every reader; True if it was accepted.

    Fails for exceptions other than AsrError, for readers that disagree, for NaN and infinity, for
    a sparse product that differs from the dense one, and for memory the file does not justify.
    """
    path.write_bytes(content)
    tracemalloc.start()
    started = time.monotonic()
    try:
        try:
            read_header(path)
            describe(path)
        except AsrError:
            pass
        try:
            tensors, _ = read(path)
        except AsrError as error:
            tensors, message = None, str(error)
        try:
            rows, _ = read_csr(path)
        except AsrError:
            rows = None
        peak = tracemalloc.get_traced_memory()[1]
        assert peak <= 1500 * len(content) + 2**22, f"{peak} bytes for a file of {len(content)}"
        assert tensors is not None or (str(path) in message and len(message) < 1500), message
        assert (tensors is None) == (rows is None), "one reader accepts, the other refuses"
        if tensors is not None:
            assert tensors.keys() == rows.keys()
            for name, array in tensors.items():
                _compare(array, rows[name])
            _run_network(path)
        peak = tracemalloc.get_traced_memory()[1]
        assert peak <= 1500 * len(content) + 2**26, f"{peak} bytes to run a file of {len(content)}"
        assert time.monotonic() - started < 20, "this took too long"
    finally:
        tracemalloc.stop()
    return tensors is not None


def _run_network(path: Path) -> None:
    """A valid file of tensors may be a network, which then runs or is refused with the reason."""
    try:
        recogniser = load(path, threads=1, backend="native")
        recogniser.log_probs(np.random.default_rng(0).normal(0, 0.1, 1600).astype(np.float32))
    except AsrError:
        return


def _compare(array: np.ndarray, other: Any) -> None:
    assert np.isfinite(array).all()
    if not isinstance(other, CsrMatrix):
        assert np.array_equal(array, other)
        return
    assert np.array_equal(array, other.to_dense())
    if array.size > 2**16 or np.abs(array).max(initial=0) > 1e4:
        return
    try:
        matrix = prepare(other, exact=True)
    except AsrError:
        return
    y = matrix(np.ones((1, array.shape[1]), np.float32))
    assert np.allclose(y, array.sum(axis=1), atol=1e-3 * (1 + np.abs(array).sum()))


def main() -> None:
    """Mutate until the time is over; print how many files were accepted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=600)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files = originals(Path(folder))
        path = Path(folder) / "mutated.asr"
        counts = [0, 0]

        def one(data: bytes) -> None:
            faulthandler.dump_traceback_later(120, exit=True)
            try:
                counts[check(mutated(data, files), path)] += 1
            except BaseException:
                print(f"data that fails: {data.hex()}", file=sys.stderr)
                raise

        try:
            import atheris
        except ImportError:
            generator = random.Random(options.seed)
            end = time.monotonic() + options.seconds
            while time.monotonic() < end:
                one(generator.randbytes(generator.randrange(4, 64)))
            print(f"seed {options.seed}: {sum(counts)} mutated files, {counts[1]} of them accepted")
            return
        atheris.instrument_all()
        arguments = [
            f"-max_total_time={options.seconds}",
            f"-seed={options.seed}",
            "-max_len=64",
            "-len_control=0",
        ]
        atheris.Setup([sys.argv[0], *arguments], one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
