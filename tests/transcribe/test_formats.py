"""Each format writes a transcript as a file and, where it can, as a line."""

import json
from dataclasses import replace

import pytest

from asr.decode import DecoderOptions, Hypothesis
from asr.decode.hypothesis import Word
from asr.errors import AsrError
from asr.transcribe.formats import WRITERS, clock, find_writer
from asr.transcribe.options import TranscribeOptions
from asr.transcribe.subtitles import SubtitleOptions
from asr.transcribe.transcript import ChunkHypotheses, Transcript

WORDS = (Word("HELLO", 0.12345, 0.5004, 0.98765), Word("THERE", 0.6, 1.1996, 0.5))
TRANSCRIPT = Transcript(
    "in/déjà.wav", "HELLO THERE", 1.23456, "tiny.asr", WORDS, notes=("2 channels mixed",)
)


def test_txt_is_plain_words() -> None:
    assert WRITERS["txt"].document(TRANSCRIPT) == "HELLO THERE\n"
    assert WRITERS["txt"].line(TRANSCRIPT) == "in/déjà.wav\tHELLO THERE"


def test_json_has_every_field() -> None:
    writer = WRITERS["json"]
    expected = {
        "path": "in/déjà.wav",
        "text": "HELLO THERE",
        "duration": 1.235,
        "complete": True,
        "model": "tiny.asr",
        "decoder": "greedy",
        "lm": None,
        "words": [
            {"word": "HELLO", "start": 0.123, "end": 0.5, "confidence": 0.988},
            {"word": "THERE", "start": 0.6, "end": 1.2, "confidence": 0.5},
        ],
        "notes": ["2 channels mixed"],
    }
    assert json.loads(writer.document(TRANSCRIPT)) == expected
    assert json.loads(writer.line(TRANSCRIPT)) == expected
    assert "\n" not in writer.line(TRANSCRIPT)
    assert "déjà" in writer.line(TRANSCRIPT)


def test_json_has_alternatives_with_their_scores() -> None:
    best = Hypothesis((1,), (3,), (0.9,), "HELLO THERE", -1.5, -1.25, -2.0)
    options = TranscribeOptions(DecoderOptions("beam", lm="lm/big.arpa", nbest=2))
    other = replace(best, text="HELLO THEIR", score=-2.0)
    alternatives = (ChunkHypotheses(0.0, 1.23456, (best, other)),)
    got = json.loads(
        WRITERS["json"].document(replace(TRANSCRIPT, nbest=alternatives, options=options))
    )
    assert (got["decoder"], got["lm"]) == ("beam", "big.arpa")
    [part] = got["nbest"]
    assert (part["start"], part["end"]) == (0.0, 1.235)
    assert part["hypotheses"] == [
        {"text": "HELLO THERE", "score": -1.5, "acoustic_score": -1.25, "lm_score": -2.0},
        {"text": "HELLO THEIR", "score": -2.0, "acoustic_score": -1.25, "lm_score": -2.0},
    ]


def test_srt_is_numbered_with_commas() -> None:
    later = replace(TRANSCRIPT, words=(*WORDS, Word("AGAIN", 3725.5, 3727.0, 0.9)))
    assert WRITERS["srt"].document(later) == (
        "1\n00:00:00,123 --> 00:00:01,200\nHELLO THERE\n\n2\n01:02:05,500 --> 01:02:07,000\nAGAIN\n"
    )


def test_vtt_has_a_header_points_and_no_markup() -> None:
    odd = replace(TRANSCRIPT, words=(Word("<B>", 0.0, 0.5, 1.0), Word("R&B", 0.5, 1.5, 1.0)))
    assert WRITERS["vtt"].document(odd) == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:01.500\n&lt;B&gt; R&amp;B\n"
    )


def test_limits_of_subtitles_come_with_the_transcript() -> None:
    options = TranscribeOptions(subtitles=SubtitleOptions(line_length=8))
    assert "HELLO\nTHERE\n" in replace(TRANSCRIPT, options=options).to("srt")


def test_tsv_has_a_word_a_line_in_milliseconds() -> None:
    assert WRITERS["tsv"].document(TRANSCRIPT) == (
        "start\tend\ttext\tconfidence\n123\t500\tHELLO\t0.988\n600\t1200\tTHERE\t0.500\n"
    )
    assert WRITERS["tsv"].line(TRANSCRIPT) == (
        "in/déjà.wav\t123\t500\tHELLO\t0.988\nin/déjà.wav\t600\t1200\tTHERE\t0.500"
    )


def test_silence_has_a_document_in_every_format() -> None:
    silence = Transcript("a.wav", "", 1.0, "tiny.asr")
    assert {name: silence.to(name) for name in ("txt", "srt", "vtt", "tsv")} == {
        "txt": "\n",
        "srt": "",
        "vtt": "WEBVTT\n",
        "tsv": "start\tend\ttext\tconfidence\n",
    }
    assert json.loads(silence.to("json"))["words"] == []


def test_times_are_rounded_once_even_at_the_end_of_a_minute() -> None:
    assert clock(59_999, ",") == "00:00:59,999"
    assert clock(60_000, ".") == "00:01:00.000"
    nearly = replace(TRANSCRIPT, words=(Word("A", 59.9996, 61.0, 1.0),))
    assert "00:01:00,000 --> 00:01:01,000" in nearly.to("srt")
    assert "60000\t61000" in nearly.to("tsv")
    assert json.loads(nearly.to("json"))["words"][0]["start"] == 60.0


def test_every_suffix_is_its_own() -> None:
    assert [writer.suffix for writer in WRITERS.values()] == [f".{name}" for name in WRITERS]


def test_unknown_format_names_those_that_exist() -> None:
    assert find_writer("json") is WRITERS["json"]
    with pytest.raises(AsrError, match=r"'doc' is unknown; there are txt, json, srt, vtt, tsv"):
        find_writer("doc")
