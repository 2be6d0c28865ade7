"""Alignment of known text: words stay as written, times are right, wrong texts are refused."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tone_network import RATE, SILENT_SECONDS, SPOKEN_SECONDS, save_tone_model, speak

from asr.audio.chunk import ChunkOptions
from asr.corpus.manifest import read_manifest
from asr.decode.alignment import split_words
from asr.errors import AsrError
from asr.text.tokenizer import train_sentencepiece
from asr.transcribe.align import align, align_to, read_text
from asr.transcribe.options import TranscribeOptions
from asr.transcribe.recogniser import Recogniser, load
from asr.transcribe.wildcard import WildcardTokenizer

LETTER = SPOKEN_SECONDS + SILENT_SECONDS


@pytest.fixture(scope="module")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Recogniser:
    return load(save_tone_model(tmp_path_factory.mktemp("model") / "tone.asr"))


def test_words_stay_as_they_are_written(tones: Recogniser) -> None:
    text = "\u2014 Bad, caf\u00e9 \u2013 face/bed: \u201cegg\u201d!"
    spoken = "BAD CAFE FACE BED EGG"
    transcript = align(tones, speak(spoken), text)
    assert [word.text for word in transcript.words] == [
        "\u2014 Bad,",
        "caf\u00e9 \u2013",
        "face/bed:",
        "\u201cegg\u201d!",
    ]
    assert transcript.text == text
    assert transcript.seconds == len(speak(spoken)) / RATE
    both = transcript.words[2]
    assert both.start == pytest.approx(SILENT_SECONDS + 9 * LETTER, abs=0.03)
    assert both.end == pytest.approx(SILENT_SECONDS + 17 * LETTER - SILENT_SECONDS, abs=0.03)


def test_text_that_the_network_does_not_find_is_aligned_all_the_same(tones: Recogniser) -> None:
    transcript = align(tones, speak("BAD CAFE EGG"), "BAD CAGE EGG")
    assert [word.text for word in transcript.words] == ["BAD", "CAGE", "EGG"]
    sure = [word.confidence for word in transcript.words]
    assert sure[1] < 0.1 < 0.7 < min(sure[0], sure[2])


def long_text(words: int) -> str:
    draw = np.random.default_rng(3)
    return " ".join("".join(draw.choice(list("ABCDEFG"), size=5)) for _ in range(words))


@pytest.mark.parametrize(
    "options", [ChunkOptions(5.0, 1.0), ChunkOptions(5.0, 0.0, split_on_silence=True)]
)
def test_a_long_recording_is_aligned_as_a_whole_one(
    tones: Recogniser, options: ChunkOptions
) -> None:
    text = long_text(40)
    samples = speak(text)
    whole = align(tones, samples, text, ChunkOptions(1000.0))
    chunked = align(tones, samples, text, options)
    for a, b in zip(whole.words, chunked.words, strict=True):
        assert (a.text, a.start) == (b.text, pytest.approx(b.start, abs=0.03))
        assert a.end == pytest.approx(b.end, abs=0.03)


@pytest.mark.parametrize("overlap", [0.0, 1.0])
def test_the_chunks_of_a_recording_make_one_matrix(tones: Recogniser, overlap: float) -> None:
    samples = speak(long_text(20))
    [(whole, seconds)] = tones.run(samples, TranscribeOptions(chunks=ChunkOptions(1000.0)))
    [(parts, _)] = tones.run(samples, TranscribeOptions(chunks=ChunkOptions(4.0, overlap)))
    assert seconds == len(samples) / RATE
    assert whole.shape == parts.shape
    same = np.isclose(whole, parts, atol=1e-4).all(axis=1)
    assert same.mean() > (0.95 if overlap else 0.9)


def test_every_word_of_real_speech_is_found_in_order(trained: Path, corpus: Path) -> None:
    recogniser = load(trained)
    for utterance in read_manifest(corpus / "test.jsonl")[:6]:
        transcript = align(recogniser, utterance.audio_filepath, utterance.text)
        assert transcript.text == utterance.text
        times = [time for word in transcript.words for time in (word.start, word.end)]
        assert times == sorted(times)
        assert times[0] < 1.0
        assert transcript.seconds - 1.0 < times[-1] <= transcript.seconds


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("", "the text has no words"),
        ("\u2014 ... !", "the text has no words"),
        ("7", "lacks '7'"),
        ("7 \u20ac 8", "lacks '7'"),
        ("BAD " * 200, r"does not fit the recording: its 799 tokens need 799 frames"),
    ],
)
def test_text_that_cannot_be_aligned_is_refused(
    tones: Recogniser, text: str, fragment: str
) -> None:
    with pytest.raises(AsrError, match=fragment):
        align(tones, speak("BAD"), text)
    with pytest.raises(AsrError):
        align(tones, np.zeros(0, np.float32), "BAD")


def test_the_text_comes_from_a_file_or_from_the_words(
    tones: Recogniser, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    soundfile.write(tmp_path / "a.wav", speak("BAD EGG"), RATE)
    (tmp_path / "a.txt").write_text("Bad\negg.\n")
    align_to(tones, tmp_path / "a.wav", str(tmp_path / "a.txt"))
    plain = json.loads(capsys.readouterr().out)
    assert [word["word"] for word in plain["words"]] == ["Bad", "egg."]
    assert plain["decoder"] is None, "nothing was decoded"
    (tmp_path / "notepad.txt").write_bytes(b"\xef\xbb\xbfBad egg.")
    align_to(tones, tmp_path / "a.wav", str(tmp_path / "notepad.txt"))
    assert json.loads(capsys.readouterr().out)["text"] == "Bad egg."
    align_to(tones, tmp_path / "a.wav", "bad egg", tmp_path / "out" / "a.srt", "srt")
    assert capsys.readouterr().out == ""
    assert "bad egg" in (tmp_path / "out" / "a.srt").read_text()
    align_to(tones, tmp_path / "a.wav", "bad  egg " + " " * 5000)
    assert json.loads(capsys.readouterr().out)["text"] == "bad egg"


def test_what_cannot_be_written_or_read_is_refused(tones: Recogniser, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", speak("BAD"), RATE)
    with pytest.raises(AsrError, match="is a folder"):
        align_to(tones, tmp_path / "a.wav", "BAD", tmp_path)
    with pytest.raises(AsrError, match="'doc' is unknown"):
        align_to(tones, tmp_path / "a.wav", "BAD", None, "doc")
    with pytest.raises(AsrError, match=r"a\.wav: not a text file"):
        align_to(tones, tmp_path / "a.wav", str(tmp_path / "a.wav"))
    with pytest.raises(AsrError, match=r"none\.wav: no such file"):
        align_to(tones, tmp_path / "none.wav", "BAD")


@pytest.mark.parametrize(
    ("spoken", "text", "strange"),
    [
        ("BAD FACE EGG", "Bad 7 egg", {1}),
        ("BAD FACE EGG", "Bad R2D2, egg!", {1}),
        ("FACE BAD EGG", "\u043f\u0440\u0438\u0432\u0435\u0442 bad egg", {0}),
        ("BAD EGG FACE", "bad egg 50%", {2}),
        ("BAD FACE DAD EGG", "bad 7 8 egg", {1, 2}),
        ("BAD FACE EGG DAD CAB", "bad 7 egg & cab", {1, 3}),
    ],
)
def test_words_that_the_tokenizer_lacks_leave_the_others_their_times(
    tones: Recogniser, spoken: str, text: str, strange: set[int]
) -> None:
    exact = align(tones, speak(spoken), spoken).words
    found = align(tones, speak(spoken), text)
    assert [word.text for word in found.words] == text.split()
    for i, (right, word) in enumerate(zip(exact, found.words, strict=True)):
        assert (word.confidence == 0) == (i in strange)
        # Of two such words side by side only the times of both together are known.
        tolerance = 0.5 if i in strange and len(strange & {i - 1, i + 1}) else 0.05
        assert word.start == pytest.approx(right.start, abs=tolerance)
        assert word.end == pytest.approx(right.end, abs=tolerance)
    [note] = found.notes
    assert note.startswith(f"{len(strange)} of {len(text.split())} words cannot be aligned")
    assert all(text.split()[i] in note for i in strange)
    assert found.text == text
    times = [time for word in found.words for time in (word.start, word.end)]
    assert times == sorted(times)


def test_a_word_that_was_never_said_has_a_time_all_the_same(tones: Recogniser) -> None:
    found = align(tones, speak("BAD EGG"), "bad 7 egg")
    exact = align(tones, speak("BAD EGG"), "bad egg")
    assert [w.start for w in found.words][::2] == pytest.approx(
        [w.start for w in exact.words], abs=0.05
    )
    assert found.words[0].end <= found.words[1].start <= found.words[1].end


def test_a_tokenizer_of_subwords_aligns_around_what_it_lacks() -> None:
    words = ["BAD", "EGG", "FACE", "CAB", "DAD", "BEE"]
    tokenizer = train_sentencepiece([" ".join(words)] * 20, 30, "/dev/null")
    wild = WildcardTokenizer(tokenizer)
    tokens = wild.encode_known(["BAD EGG", "7", "8", "FACE", "9"])
    assert tokens.count(wild.wildcard) == 2
    assert [text for text, _, _ in split_words(tokens, wild)] == ["BAD", "EGG", "*", "FACE", "*"]


def test_the_note_of_an_alignment_is_said_and_written(
    tones: Recogniser, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    soundfile.write(tmp_path / "a.wav", speak("BAD FACE EGG"), RATE)
    align_to(tones, tmp_path / "a.wav", "bad 7 egg")
    out, err = capsys.readouterr()
    assert json.loads(out)["notes"][0].startswith("1 of 3 words cannot be aligned")
    assert err.startswith(f"{tmp_path / 'a.wav'}: 1 of 3 words")


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("transcrpt.txt", "transcript.txt"),
        ("./transcript", "transcript.txt"),
        ("sub/missing", None),
        ("/missing/talk", None),
        ("my talk.TXT", None),
        ("talk.final", None),
        ("talk.srt", None),
        ("speach", "speech"),
    ],
)
def test_the_name_of_a_file_that_is_not_there_is_not_taken_for_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, meant: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("transcript.txt", "speech"):
        (tmp_path / name).write_text("bad egg")
    with pytest.raises(AsrError, match="no such text file") as refused:
        read_text(given)
    assert str(refused.value).startswith(f"{given}: ")
    assert "put them into a file" in str(refused.value)
    if meant:
        assert f"Did you mean '{meant if '/' not in given else './' + meant}'" in str(refused.value)


@pytest.mark.parametrize(
    "text",
    ["egg", "Wait...", "U.S.A.", "and / or", "Call 3.5 times.", "See example.com today", "a\nb.txt",
     "He said: yes.No", "", "word " * 2000],
)  # fmt: skip
def test_words_are_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other.txt").write_text("")
    assert read_text(text) == text


def test_a_folder_is_not_a_text_and_a_pipe_is_one(tmp_path: Path) -> None:
    with pytest.raises(AsrError, match="is a folder"):
        read_text(str(tmp_path))
    read, write = os.pipe()
    os.write(write, b"bad egg")
    os.close(write)
    if os.path.exists(f"/dev/fd/{read}"):
        assert read_text(f"/dev/fd/{read}") == "bad egg"
    os.close(read)
