"""A file gives back what was written, or an error that says why not; never anything else."""

import hashlib
import json
import random
import struct
import subprocess
import sys
import tracemalloc
import wave
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.errors import AsrError
from asr.sparse import CsrMatrix, read, read_csr, read_header, write

PREFIX = struct.Struct("<8sIQ32s")
METADATA = {"kind": "test", "list": [1, 2.5, None, True], "unicode": "Zürich", "empty": {}}


def some_tensors() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    weights = generator.normal(0, 1, (24, 20)).astype(np.float32)
    weights[np.abs(weights) < 1.6] = 0
    return {
        "layer.weight": weights,
        "layer.bias": generator.normal(0, 1, 24).astype(np.float32),
        "tied.weight": weights,
        "count": np.array(7, np.int64),
        "nothing": np.zeros((0, 3), np.float32),
    }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write(tmp_path / "model.asr", some_tensors(), METADATA)
    return tmp_path / "model.asr"


def assert_equal(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        assert np.array_equal(found[name], array), name


@pytest.mark.parametrize("compress", [True, False])
def test_tensors_and_metadata_come_back(tmp_path, compress):
    write(tmp_path / "a.asr", some_tensors(), METADATA, compress=compress)
    tensors, metadata = read(tmp_path / "a.asr")
    assert_equal(tensors, some_tensors())
    assert metadata == METADATA


def test_an_array_under_two_names_is_stored_once_and_comes_back_as_one(path, tmp_path):
    tensors, _ = read(path)
    assert tensors["tied.weight"] is tensors["layer.weight"]
    header = read_header(path)
    assert [entry.name for entry in header.stored] == [
        "layer.weight",
        "layer.bias",
        "count",
        "nothing",
    ]
    assert header.tensors[2].same_as == "layer.weight"
    untied = {name: array.copy() for name, array in some_tensors().items()}
    assert write(tmp_path / "untied.asr", untied, METADATA).file_bytes > header.file_bytes + 100


def test_matrices_with_zeros_are_read_as_csr_and_all_else_as_arrays(path, tmp_path):
    rows, metadata = read_csr(path)
    assert metadata == METADATA
    assert isinstance(rows["layer.weight"], CsrMatrix)
    assert rows["tied.weight"] is rows["layer.weight"]
    assert np.array_equal(rows["layer.weight"].to_dense(), some_tensors()["layer.weight"])
    for name in ("layer.bias", "count", "nothing"):
        assert np.array_equal(rows[name], some_tensors()[name])

    few = np.ones((20, 20), np.float32)
    few[0, :39] = 0
    more = {
        "few zeros": few,
        "double": some_tensors()["layer.weight"].astype(np.float64),
        "kernel": some_tensors()["layer.weight"].reshape(24, 1, 4, 5),
    }
    write(tmp_path / "more.asr", more, {})
    assert_equal(read_csr(tmp_path / "more.asr")[0], more)


def test_a_dense_file_is_read_as_csr_too(path, tmp_path):
    write(tmp_path / "dense.asr", some_tensors(), METADATA, compress=False)
    rows, packed = (read_csr(p)[0]["layer.weight"] for p in (tmp_path / "dense.asr", path))
    for name in ("starts", "columns", "values"):
        assert np.array_equal(getattr(rows, name), getattr(packed, name))


def test_int8_quarters_matrices_and_spares_vectors(tmp_path):
    tensors = {"matrix": np.full((40, 40), 1 / 3, np.float32), "vector": np.float32([1e6 + 1 / 3])}
    header = write(tmp_path / "a.asr", tensors, {}, "int8")
    assert [entry.layout.values for entry in header.tensors] == ["int8", "float32"]
    found, _ = read(tmp_path / "a.asr")
    assert found["matrix"] == pytest.approx(1 / 3, rel=1e-4)
    assert np.array_equal(found["vector"], tensors["vector"])


def test_fp16_halves_matrices_and_spares_vectors(tmp_path):
    matrix, vector = np.full((4, 4), 1 / 3, np.float32), np.full(4, 1e6 + 1 / 3, np.float32)
    write(tmp_path / "a.asr", {"matrix": matrix, "variance": vector}, {}, "fp16")
    tensors, _ = read(tmp_path / "a.asr")
    assert tensors["matrix"][0, 0] == np.float16(1 / 3)
    assert tensors["matrix"].dtype == np.float32
    assert np.array_equal(tensors["variance"], vector)


def test_the_same_content_gives_the_same_bytes(path, tmp_path):
    again = dict(reversed(METADATA.items()))
    write(tmp_path / "again.asr", some_tensors(), again)
    assert (tmp_path / "again.asr").read_bytes() == path.read_bytes()


def test_the_header_is_what_write_reported_and_needs_no_payload(path, tmp_path):
    assert read_header(path) == write(tmp_path / "b.asr", some_tensors(), METADATA)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    entry = read_header(path).tensors[0]
    weights = some_tensors()["layer.weight"]
    assert (entry.name, entry.layout.shape, entry.layout.elements) == (
        "layer.weight",
        (24, 20),
        480,
    )
    assert entry.layout.nonzeros == np.count_nonzero(weights)
    assert (entry.layout.encoding, entry.layout.values) == ("bitmask", "float32")


def test_what_cannot_be_written_is_named_and_the_old_file_stays(path):
    before = path.read_bytes()
    tensors = some_tensors()
    for bad, values, message in [
        (np.array([[np.nan]], np.float32), "fp32", "'bad' holds NaN or infinity"),
        (np.array([[7e4]], np.float32), "fp16", "'bad' has a weight of 70000"),
        (np.array(["a"]), "fp32", "'bad' is of type <U1"),
        (np.zeros((1,) * 9, np.float32), "fp32", "'bad' is too large"),
    ]:
        with pytest.raises(AsrError, match=message):
            write(path, tensors | {"bad": bad}, METADATA, values)
    with pytest.raises(AsrError, match="needs a printable name"):
        write(path, {"a\x1b[2J": np.zeros(1)}, METADATA)
    with pytest.raises(AsrError, match="there are fp32, fp16, int8"):
        write(path, tensors, METADATA, "int4")
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["model.asr"]


def test_a_place_that_cannot_be_written_to_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(AsrError, match=r"file/a\.asr: cannot write"):
        write(tmp_path / "file" / "a.asr", some_tensors(), {})


# --- files that are something else ---


def zip_file(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}q\x00.")


def wav_file(path: Path) -> None:
    with wave.open(str(path), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(16000)
        sound.writeframes(bytes(100))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (zip_file, "serves only to resume training: use the model.asr"),
        (lambda path: path.write_bytes(b"\x80\x02\x8a\nl\xfc"), "serves only to resume"),
        (wav_file, "is not a model file of asr"),
        (lambda path: path.write_text("some text\n"), "is not a model file of asr"),
        (lambda path: path.write_bytes(b""), "it is empty"),
        (lambda path: path.write_bytes(b"ASRMO"), "truncated, 5 bytes"),
        (lambda path: path.mkdir(), "is not a regular file"),
        (lambda path: None, "there is no such model file"),
    ],
)
def test_a_file_that_is_not_a_model_file_is_refused_with_the_reason(tmp_path, make, message):
    path = tmp_path / "given.bin"
    make(path)
    for reader in (read, read_header):
        with pytest.raises(AsrError, match=message) as error:
            reader(path)
        assert "given.bin" in str(error.value)


@pytest.mark.parametrize(
    ("version", "message"),
    [
        (3, "version 3, this asr reads version 2: it was written by a newer asr"),
        (1, "an older asr"),
    ],
)
def test_another_version_is_refused(path, version, message):
    content = path.read_bytes()
    path.write_bytes(content[:8] + struct.pack("<I", version) + content[12:])
    with pytest.raises(AsrError, match=message):
        read(path)


# --- damage ---


def test_a_truncation_is_noticed_wherever_it_is(path):
    content = path.read_bytes()
    for size in range(0, len(content), 7):
        path.write_bytes(content[:size])
        for reader in (read, read_csr):
            with pytest.raises(AsrError, match=r"truncated|is empty"):
                reader(path)
    path.write_bytes(content + b"\0")
    with pytest.raises(AsrError, match="1 bytes follow its end"):
        read(path)


def test_a_flipped_byte_is_noticed_wherever_it_is(path):
    content = path.read_bytes()
    generator = random.Random(0)
    behind = range(PREFIX.size, len(content))
    for place in [*range(PREFIX.size), *generator.sample(behind, 400), len(content) - 1]:
        damaged = bytearray(content)
        damaged[place] ^= 1 << generator.randrange(8)
        path.write_bytes(damaged)
        with pytest.raises(AsrError) as error:
            read(path)
        assert str(path) in str(error.value)
        if place >= PREFIX.size:
            assert "damaged" in str(error.value)
            assert "get the file again" in str(error.value)


# --- headers made by somebody who knows the format ---


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

    # A matrix of 4 TB, said to be all zero.
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


def test_asr_sparse_imports_numpy_and_the_standard_library_only():
    code = (
        "import sys, asr.sparse; "
        "print(sorted(n for n in sys.modules if n.split('.')[0] in ('asr', 'torch', 'soundfile')))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    names = ["asr", "asr.errors", "asr.files", "asr.sparse"]
    names += [
        f"asr.sparse.{part}"
        for part in ("csr", "deflate", "file", "formats", "header", "layout", "quantise")
    ]
    assert result.stdout.strip() == str(names)
