"""Each format writes a transcript as a file and as a line."""

import json

import pytest

from asr.errors import AsrError
from asr.transcribe import Transcript
from asr.writers import WRITERS, find_writer

TRANSCRIPT = Transcript("in/déjà.wav", "HELLO THERE", 1.23456, "tiny.asr", ("2 channels mixed",))


def test_txt_is_plain_words() -> None:
    assert WRITERS["txt"].suffix == ".txt"
    assert WRITERS["txt"].document(TRANSCRIPT) == "HELLO THERE\n"
    assert WRITERS["txt"].line(TRANSCRIPT) == "in/déjà.wav\tHELLO THERE"


def test_json_has_path_text_duration_and_model() -> None:
    writer = WRITERS["json"]
    expected = {
        "path": "in/déjà.wav",
        "text": "HELLO THERE",
        "duration": 1.235,
        "model": "tiny.asr",
    }
    assert writer.suffix == ".json"
    assert json.loads(writer.document(TRANSCRIPT)) == expected
    assert json.loads(writer.line(TRANSCRIPT)) == expected
    assert "\n" not in writer.line(TRANSCRIPT)
    assert "déjà" in writer.line(TRANSCRIPT)


def test_every_suffix_is_its_own() -> None:
    suffixes = [writer.suffix for writer in WRITERS.values()]
    assert len(set(suffixes)) == len(suffixes)


def test_unknown_format_names_those_that_exist() -> None:
    assert find_writer("json") is WRITERS["json"]
    with pytest.raises(AsrError, match=r"format 'doc' is unknown; there are txt, json"):
        find_writer("doc")
