"""Headers made by an attacker who knows the format are refused unless the file justifies them."""

import hashlib
import json
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packed_file import METADATA, PREFIX, some_tensors

from asr.errors import AsrError
from asr.sparse import read, write


def split(content: bytes) -> tuple[dict[str, Any], bytes]:
    size = PREFIX.unpack_from(content)[2]
    return json.loads(content[PREFIX.size : PREFIX.size + size]), content[PREFIX.size + size :]


def joined(text: bytes, payload: bytes, size: int | None = None) -> bytes:
    digest = hashlib.sha256(text).digest()
    return PREFIX.pack(b"ASRMODEL", 2, len(text) if size is None else size, digest) + text + payload


def forged(path: Path, edit: dict[str, Any], tensor: int = 0) -> None:
    header, payload = split(path.read_bytes())
    header["tensors"][tensor] |= edit
    path.write_bytes(joined(json.dumps(header).encode(), payload))


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ({"name": "layer.bias"}, "'layer.bias' is listed twice"),
        ({"name": ""}, "needs a printable name"),
        ({"name": "\ud800"}, "needs a printable name"),
        ({"name": 5}, "needs a printable name"),
        ({"shape": [24, 21]}, "contradict its shape"),
        ({"shape": [-24, -20]}, "not a whole number"),
        ({"shape": [24.0, 20]}, "not a whole number"),
        ({"shape": [True, 480]}, "contradict its shape|not a whole number"),
        ({"shape": 480}, "not a whole number"),
        ({"shape": [2**40, 2**40]}, "too large"),
        ({"offset": 1}, "does not follow the one before it"),
        ({"offset": -1}, "not a whole number"),
        ({"nonzeros": 10**400}, "contradict"),
        ({"dtype": "object"}, "has dtype 'object'"),
        ({"dtype": ["float32"]}, "not text"),
        ({"encoding": "x" * 500}, "has dtype"),
        ({"compression": None}, "not text"),
        ({"more": 1}, "missing or unknown keys"),
        ({"same_as": "layer.bias"}, "is not listed before it"),
        ({"crc32": 1}, "'layer.weight' does not match its checksum"),
    ],
    ids=str,
)
def test_a_header_that_contradicts_itself_is_refused(path, edit, message):
    forged(path, edit)
    with pytest.raises(AsrError, match=message) as error:
        read(path)
    assert len(str(error.value)) < 600


@pytest.mark.parametrize(
    "same_as", ["tied.weight", "missing", None, ["layer.weight"], {"a": 1}], ids=str
)
def test_a_tied_tensor_must_name_one_that_is_stored_before_it(path, same_as):
    forged(path, {"same_as": same_as}, tensor=2)
    with pytest.raises(AsrError, match=r"'tied\.weight' is the same as a tensor that is not"):
        read(path)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"{}",
        b'{"metadata": 1, "tensors": []}',
        b'{"metadata": {}, "tensors": {}}',
        b'{"metadata": {}, "tensors": [1]}',
        b'{"metadata": {"a": NaN}, "tensors": []}',
        b'{"metadata": {"a": 1e999}, "tensors": []}',
        b'{"metadata": {"a": 1, "a": 2}, "tensors": []}',
        b'{"metadata": {"a": "\xff"}, "tensors": []}',
        b'{"metadata": {"a": ' + b"[" * 100_000 + b'}, "tensors": []}',
        b'{"metadata": {"a": ' + b"9" * 5000 + b'}, "tensors": []}',
        b'{"metadata": {"a": ' + b"[" * 99 + b"]" * 99 + b'}, "tensors": []}',
    ],
    ids=lambda text: text[:40].decode("latin1"),
)
def test_a_header_of_another_form_is_refused(tmp_path, text):
    (tmp_path / "a.asr").write_bytes(joined(text, b""))
    with pytest.raises(AsrError, match="damaged: its"):
        read(tmp_path / "a.asr")


def peak_bytes_of_refusal(path: Path) -> int:
    tracemalloc.start()
    try:
        with pytest.raises(AsrError):
            read(path)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_hostile_header_gets_no_memory(path):
    content = path.read_bytes()
    header, payload = split(content)
    text = json.dumps(header).encode()

    path.write_bytes(joined(text, payload, size=2**62))
    assert peak_bytes_of_refusal(path) < 2**20

    # A matrix of 4 TB that claims to be all zero.
    huge = {"shape": [2**20, 2**20], "nonzeros": 0, "kept": 0, "raw_bytes": 2**37}
    path.write_bytes(content)
    forged(path, huge)
    assert peak_bytes_of_refusal(path) < 2**20

    # A stream of 45 kB that would inflate to 46 MB, where the layout says 1.2 kB.
    coder = zlib.compressobj(9, zlib.DEFLATED, -15)
    bomb = coder.compress(bytes(46_000_000)) + coder.flush()
    entry = header["tensors"][0] | {
        "shape": [9600],
        "stored_bytes": len(bomb),
        "nonzeros": 0,
        "kept": 0,
        "raw_bytes": 1200,
        "crc32": zlib.crc32(bomb),
    }
    del coder
    text = json.dumps({"metadata": {}, "tensors": [entry]}).encode()
    path.write_bytes(joined(text, bomb))
    assert peak_bytes_of_refusal(path) < 2**20


def places(value: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    keys = (
        value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    )
    return [place, *(p for key in keys for p in places(value[key], (*place, key)))]


plain_values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 2**45),
    st.floats(allow_nan=False),
    st.sampled_from(["dense", "bitmask", "none", "deflate", "float16", "int8", "layer.bias", ""]),
    st.lists(st.integers(-1, 2**33), max_size=9),
    st.just({}),
)


@settings(max_examples=150, deadline=None, database=None, derandomize=True)
@given(st.data())
def test_any_edited_header_gives_an_error_or_tensors_that_the_file_justifies(
    tmp_path_factory, data
):
    path = tmp_path_factory.getbasetemp() / "edited.asr"
    write(path, some_tensors(), METADATA)
    header, payload = split(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        if not (left := places(header)[1:]):
            break
        place = data.draw(st.sampled_from(left))
        inner = header
        for key in place[:-1]:
            inner = inner[key]
        if data.draw(st.booleans()) and isinstance(inner, dict):
            del inner[place[-1]]
        else:
            inner[place[-1]] = data.draw(plain_values)
    path.write_bytes(joined(json.dumps(header).encode(), payload))
    try:
        tensors, _ = read(path)
    except AsrError:
        return
    stored = {id(array): array.nbytes for array in tensors.values()}
    assert sum(stored.values()) <= 256 * len(payload) + 4096 * len(stored)
    assert all(np.isfinite(array).all() for array in tensors.values())
