"""Files that somebody tampered with give an error, never a crash, a hang or much memory."""

import random
from pathlib import Path

import pytest
from fuzz import check, mutated, originals
from hypothesis import given, settings
from hypothesis import strategies as st


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> list[bytes]:
    return originals(tmp_path_factory.mktemp("originals"))


def test_the_files_that_are_mutated_are_sound(files, tmp_path):
    assert all(check(content, tmp_path / "a.asr") for content in files)


@settings(max_examples=300, deadline=None, database=None, derandomize=True)
@given(st.binary(min_size=24, max_size=64))
def test_a_mutated_file_is_refused_or_read_alike_by_every_way(files, tmp_path_factory, data):
    path: Path = tmp_path_factory.getbasetemp() / "mutated.asr"
    check(mutated(data, files), path)


def test_some_mutations_pass_the_checksums_and_some_do_not(files, tmp_path):
    # Mutations that were all refused at the first checksum would test nothing behind it.
    generator = random.Random(0)
    accepted = [
        check(mutated(generator.randbytes(32), files), tmp_path / "a.asr") for _ in range(200)
    ]
    assert 20 < sum(accepted) < 180
