"""A manipulated file gives an error or valid tensors, never a crash, a hang or much memory."""

import random
from pathlib import Path

import numpy as np
import pytest
from fuzz import check, mutated, originals
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.errors import AsrError
from asr.sparse import read, write
from asr.transcribe.recogniser import load


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> list[bytes]:
    return originals(tmp_path_factory.mktemp("originals"))


def test_the_files_that_are_mutated_are_sound(files, tmp_path):
    assert all(check(content, tmp_path / "a.asr") for content in files)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("fft_size", 2**30),
        ("sample_rate", 2**40),
        ("step_seconds", 1e-12),
        ("log_floor", 1e300),
        ("mels", 2**20),
    ],
)
def test_a_network_may_not_ask_for_a_frontend_without_bounds(files, tmp_path, name, value):
    path = tmp_path / "a.asr"
    path.write_bytes(files[-1])
    samples = np.random.default_rng(0).normal(0, 0.1, 1600).astype(np.float32)
    assert load(path, backend="native").log_probs(samples).shape == (4, 29)
    tensors, metadata = read(path)
    metadata["frontend"][name] = value
    write(path, tensors, metadata)
    with pytest.raises(AsrError, match=f"frontend.{name}="):
        load(path, backend="native")


@settings(max_examples=200, deadline=None, database=None, derandomize=True)
@given(st.binary(min_size=24, max_size=64))
def test_a_mutated_file_is_refused_or_read_alike_by_every_reader(files, tmp_path_factory, data):
    path: Path = tmp_path_factory.getbasetemp() / "mutated.asr"
    check(mutated(data, files), path)


def test_some_mutations_pass_the_checksums_and_some_do_not(files, tmp_path):
    # Mutations that were all refused at the first checksum would test nothing behind it.
    generator = random.Random(0)
    accepted = [
        check(mutated(generator.randbytes(32), files), tmp_path / "a.asr") for _ in range(200)
    ]
    assert 20 < sum(accepted) < 180
