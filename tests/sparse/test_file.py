"""Reading a file gives what was written, or an error with the reason."""

import random
import struct
import subprocess
import sys
import wave
import zipfile
from pathlib import Path

import numpy as np
import pytest
from packed_file import METADATA, PREFIX, some_tensors

from asr.errors import AsrError
from asr.sparse import CsrMatrix, read, read_csr, read_header, write


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


def test_int8_quarters_matrices_and_does_not_change_vectors(tmp_path):
    tensors = {"matrix": np.full((40, 40), 1 / 3, np.float32), "vector": np.float32([1e6 + 1 / 3])}
    header = write(tmp_path / "a.asr", tensors, {}, "int8")
    assert [entry.layout.values for entry in header.tensors] == ["int8", "float32"]
    found, _ = read(tmp_path / "a.asr")
    assert found["matrix"] == pytest.approx(1 / 3, rel=1e-4)
    assert np.array_equal(found["vector"], tensors["vector"])


def test_fp16_halves_matrices_and_does_not_change_vectors(tmp_path):
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


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"loss": float("nan")}, r"metadata\['loss'\] is nan of type float: it holds plain values"),
        ({"runs": [{}, {"wer": np.float32(1)}]}, r"metadata\['runs'\]\[1\]\['wer'\] is .* float32"),
        ({"from": Path("x")}, r"metadata\['from'\] is \w+Path\('x'\) of type"),
        ({"labels": {0: "a", "b": 2}}, r"metadata\['labels'\] has keys that are not text"),
    ],
    ids=str,
)
def test_metadata_that_is_not_plain_is_refused_with_its_place(path, metadata, message):
    before = path.read_bytes()
    with pytest.raises(AsrError, match=rf"model\.asr: not written: {message}"):
        write(path, some_tensors(), metadata)
    assert path.read_bytes() == before


def test_what_is_not_an_array_is_refused_by_name(path):
    rows, _ = read_csr(path)
    for value, message in [
        (rows["layer.weight"], r"is a CsrMatrix, not an array of numpy, which to_dense\(\) makes"),
        ([1.0, 2.0], r"is a list, not an array of numpy, which numpy\.asarray makes"),
    ]:
        with pytest.raises(AsrError, match=rf"not written: tensor 'bad' {message}"):
            write(path, {"bad": value}, {})


def test_a_place_that_cannot_be_written_to_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(AsrError, match=r"file/a\.asr: cannot be written"):
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


def test_asr_sparse_imports_only_numpy_and_the_standard_library():
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
