"""Recordings become text with words and times, in order, for any batches, chunks and threads."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from tone_network import RATE, SILENT_SECONDS, SPOKEN_SECONDS, record, save_tone_model, speak
from transcribed import TEXTS, texts

from asr import audio
from asr.audio.chunk import ChunkOptions
from asr.corpus.manifest import read_manifest
from asr.decode import DecoderOptions
from asr.errors import AsrError
from asr.evaluate.wer import score
from asr.model.pack import pack
from asr.text.normalise import normalise
from asr.transcribe.align import align
from asr.transcribe.options import TranscribeOptions
from asr.transcribe.recogniser import Recogniser, load


def test_a_file_becomes_a_transcript(recogniser: Recogniser, tmp_path: Path) -> None:
    path = record(tmp_path / "cafe.flac", "BAD CAFE")
    [transcript] = recogniser.transcribe(path)
    assert (transcript.path, transcript.text) == (str(path), "BAD CAFE")
    assert transcript.seconds == len(speak("BAD CAFE")) / RATE
    assert (transcript.model, transcript.notes, transcript.error) == ("tone.asr", (), None)
    assert texts(recogniser.transcribe(str(path))) == ["BAD CAFE"]


def test_other_options_leave_the_decoder_of_the_recogniser(recogniser: Recogniser) -> None:
    own = DecoderOptions("beam", beam=8, nbest=2)
    ours = Recogniser(recogniser.backend, recogniser.tokenizer, own)
    for options in (None, TranscribeOptions(), TranscribeOptions(chunks=ChunkOptions(9.0))):
        [transcript] = ours.transcribe(speak("BAD CAFE"), options)
        assert transcript.options.decoding == transcript.decoding == own
        assert [len(part.hypotheses) for part in transcript.nbest] == [2]
    [greedy] = ours.transcribe(speak("BAD CAFE"), TranscribeOptions(DecoderOptions()))
    assert (greedy.decoding, greedy.nbest) == (DecoderOptions(), ())
    assert '"decoder": "beam"' in transcript.to("json")
    assert '"decoder": "greedy"' in greedy.to("json")
    assert ours.decoder() is ours.decoder(own)


def test_output_has_the_requested_letter_case(recogniser: Recogniser) -> None:
    beam = DecoderOptions("beam", beam=8, nbest=2)
    texts_of = {}
    for case in (None, "lower", "upper"):
        [transcript] = recogniser.transcribe(speak("BAD CAFE"), TranscribeOptions(beam, case=case))
        assert [word.text for word in transcript.words] == transcript.text.split()
        assert transcript.nbest[0].hypotheses[0].text == transcript.text
        texts_of[case] = transcript.text
    assert texts_of == {None: "BAD CAFE", "lower": "bad cafe", "upper": "BAD CAFE"}
    assert transcript.to("srt").endswith("BAD CAFE\n")
    with pytest.raises(AsrError, match="case='title': lower or upper"):
        TranscribeOptions(case="title")


def test_silence_moves_the_progress_bar_and_loses_no_words(recogniser: Recogniser) -> None:
    still = np.full(12 * RATE, 0.25, np.float32)
    sources = [still, np.concatenate([speak("BAD CAFE"), still]), np.zeros(RATE, np.float32)]
    seconds: list[float] = []
    options = TranscribeOptions(chunks=ChunkOptions(2.0, 0.5))
    assert texts(recogniser.transcribe(sources, options, seconds.append)) == ["", "BAD CAFE", ""]
    assert sum(seconds) == pytest.approx(sum(map(len, sources)) / RATE)


@pytest.mark.parametrize("batch_seconds", [0.1, 2.0, 120.0])
def test_texts_come_in_order_for_any_batches(recogniser: Recogniser, batch_seconds: float) -> None:
    options = TranscribeOptions(batch_seconds=batch_seconds)
    sources = [speak(text) for text in TEXTS]
    assert texts(recogniser.transcribe(sources, options)) == TEXTS
    assert texts(recogniser.transcribe(sources[::-1], options)) == TEXTS[::-1]


def test_batches_are_sorted_by_length_and_bounded(
    recogniser: Recogniser, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, ...]] = []
    log_probs = recogniser.backend.log_probs

    def watching(rows: Sequence[np.ndarray]) -> list[np.ndarray]:
        seen.append((len(rows), max(map(len, rows))))
        return log_probs(rows)

    monkeypatch.setattr(recogniser.backend, "log_probs", watching)
    sources = [speak(text) for text in TEXTS]
    got = texts(recogniser.transcribe(sources, TranscribeOptions(batch_seconds=3.0)))
    assert got == TEXTS
    assert all(count * frames <= 300 for count, frames in seen)
    assert len(seen) < len(sources)
    assert [frames for _, frames in seen] == sorted((frames for _, frames in seen), reverse=True)


def test_reading_stays_within_a_window(recogniser: Recogniser) -> None:
    read = 0

    def sources() -> Iterator[np.ndarray]:
        nonlocal read
        for text in TEXTS * 20:
            read += 1
            yield speak(text)

    transcripts = recogniser.transcribe(sources(), TranscribeOptions(batch_seconds=1.0))
    assert next(transcripts).text == TEXTS[0]
    assert read <= 12, "8 batches of a second contain about eight of these"
    assert texts(transcripts) == (TEXTS * 20)[1:]


def test_other_rates_and_channels_are_converted_and_noted(
    recogniser: Recogniser, tmp_path: Path
) -> None:
    path = record(tmp_path / "cafe.wav", "BAD CAFE", rate=44100, channels=2)
    [transcript] = recogniser.transcribe([path])
    assert transcript.text == "BAD CAFE"
    assert transcript.notes == ("2 channels mixed", "44100 Hz resampled to 16000 Hz")


@pytest.mark.parametrize("samples", [0, 1, 399])
def test_audio_too_short_for_a_frame_gives_no_text(recogniser: Recogniser, samples: int) -> None:
    sources = [speak("BAD"), np.zeros(samples, np.float32), speak("CAFE")]
    assert texts(recogniser.transcribe(sources)) == ["BAD", "", "CAFE"]
    assert texts(recogniser.transcribe(sources[1])) == [""]


@pytest.mark.parametrize(
    ("waveform", "fragment"),
    [
        (np.zeros((2, 8000), np.float32), r"shape \(2, 8000\)"),
        (np.zeros(8000, np.int64), "type int64"),
        (np.full(8000, np.nan, np.float32), "not a number"),
        (np.full(8000, 1e300), "beyond"),
    ],
)
def test_waveforms_of_another_kind_are_refused(
    recogniser: Recogniser, waveform: np.ndarray, fragment: str
) -> None:
    with pytest.raises(AsrError, match=fragment):
        next(recogniser.transcribe(waveform))


def test_a_bad_file_raises_after_all_before_it(recogniser: Recogniser, tmp_path: Path) -> None:
    paths = [record(tmp_path / "a.wav", "BAD"), tmp_path / "none.wav", tmp_path / "a.wav"]
    transcripts = recogniser.transcribe(paths)
    assert next(transcripts).text == "BAD"
    with pytest.raises(AsrError, match=r"none\.wav"):
        next(transcripts)


def test_a_bad_file_is_reported_on_request_and_the_rest_is_transcribed(
    recogniser: Recogniser, tmp_path: Path
) -> None:
    paths = [record(tmp_path / "a.wav", "BAD"), tmp_path / "none.wav", tmp_path / "a.wav"]
    got = list(recogniser.transcribe(paths, TranscribeOptions(on_error="report")))
    assert [t.text for t in got] == ["BAD", "", "BAD"]
    assert [t.error is None for t in got] == [True, False, True]
    assert "none.wav" in str(got[1].error)


@pytest.mark.parametrize(
    ("values", "fragment"),
    [({"batch_seconds": 0.0}, "batch_seconds=0.0: above 0"), ({"on_error": "skip"}, "on_error=")],
)
def test_impossible_options_are_refused(values: dict, fragment: str) -> None:
    with pytest.raises(AsrError, match=fragment):
        TranscribeOptions(**values)


def letter_times(text: str) -> list[tuple[float, float]]:
    """Start and end of each word of `speak(text)`, in seconds."""
    step, times, at = SPOKEN_SECONDS + SILENT_SECONDS, [], 0
    for word in text.split():
        at = text.index(word, at)
        begin = SILENT_SECONDS + at * step
        times.append((begin, begin + len(word) * step - SILENT_SECONDS))
        at += len(word)
    return times


def test_words_come_with_times_and_confidence(recogniser: Recogniser) -> None:
    text = "BAD CAFE A BEE"
    [transcript] = recogniser.transcribe(speak(text))
    assert [word.text for word in transcript.words] == text.split()
    for word, (start, end) in zip(transcript.words, letter_times(text), strict=True):
        assert word.start == pytest.approx(start, abs=0.04)
        assert word.end == pytest.approx(end, abs=0.04)
        assert 0.5 < word.confidence <= 1


def long_speech() -> str:
    return " ".join(TEXTS[:3] + TEXTS[4:]) + " "


def test_a_long_recording_gives_the_texts_of_its_parts(
    recogniser: Recogniser, tmp_path: Path
) -> None:
    text = (long_speech() * 6).strip()
    path = record(tmp_path / "long.flac", text)
    chunks = ChunkOptions(chunk_seconds=4.0, overlap_seconds=2.0)
    for source in (path, speak(text)):
        [transcript] = recogniser.transcribe(source, TranscribeOptions(chunks=chunks))
        assert transcript.text == text
        for word, (start, end) in zip(transcript.words, letter_times(text), strict=True):
            assert word.start == pytest.approx(start, abs=0.05)
            assert word.end == pytest.approx(end, abs=0.05)


def test_a_long_recording_may_be_split_where_it_is_quiet(recogniser: Recogniser) -> None:
    pause = np.zeros(RATE // 2, np.float32)
    phrases = [text for text in TEXTS * 4 if text]
    sound = np.concatenate([part for text in phrases for part in (speak(text + " "), pause)])
    options = TranscribeOptions(chunks=ChunkOptions(chunk_seconds=6.0, split_on_silence=True))
    [transcript] = recogniser.transcribe(sound, options)
    assert transcript.text == " ".join(phrases)


def test_a_long_recording_is_read_as_it_is_transcribed(
    recogniser: Recogniser, tmp_path: Path
) -> None:
    text = (long_speech() * 6).strip()
    sources = [speak("BAD"), record(tmp_path / "long.wav", text), speak("EGG")]
    options = TranscribeOptions(
        chunks=ChunkOptions(chunk_seconds=4.0, overlap_seconds=2.0), batch_seconds=4.0
    )
    done: list[float] = []
    got = list(recogniser.transcribe(sources, options, done.append))
    assert [t.text for t in got] == ["BAD", text, "EGG"]
    assert len(done) > 3
    assert sum(done) == pytest.approx(sum(t.seconds for t in got))


def test_a_long_recording_that_ends_early_has_the_words_that_are_there(
    recogniser: Recogniser, tmp_path: Path
) -> None:
    text = (long_speech() * 6).strip()
    path = record(tmp_path / "long.flac", text)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    chunks = ChunkOptions(chunk_seconds=2.0, overlap_seconds=1.0)
    options = TranscribeOptions(chunks=chunks, batch_seconds=0.5, on_error="report")
    first, last = recogniser.transcribe([path, speak("BAD")], options)
    assert text.startswith(first.text.rpartition(" ")[0])
    assert 0.4 * len(text) < len(first.text) < 0.6 * len(text)
    assert (first.complete, first.error, last.complete) == (False, None, True)
    assert "truncated" in first.notes[-1]
    assert last.text == "BAD"


def test_the_beam_gives_alternatives_and_the_same_text(recogniser: Recogniser) -> None:
    options = TranscribeOptions(DecoderOptions(decoder="beam", beam=8, nbest=3))
    [transcript] = recogniser.transcribe(speak("FEED A BEE"), options)
    assert transcript.text == "FEED A BEE"
    [part] = transcript.nbest
    assert (part.start, part.end) == (0.0, transcript.seconds)
    assert part.hypotheses[0].text == "FEED A BEE"
    assert 1 < len(part.hypotheses) <= 3
    scores = [h.score for h in part.hypotheses]
    assert scores == sorted(scores, reverse=True)
    [plain] = recogniser.transcribe(speak("FEED A BEE"))
    assert plain.nbest == ()
    assert plain.words == transcript.words


def test_a_missing_language_model_is_refused_before_audio_is_read(
    recogniser: Recogniser,
) -> None:
    def sources() -> Iterator[np.ndarray]:
        pytest.fail("nothing may be read")
        yield speak("BAD")

    options = TranscribeOptions(DecoderOptions(decoder="beam", lm="none.arpa"))
    with pytest.raises(AsrError, match=r"none\.arpa"):
        recogniser.transcribe(sources(), options)


def test_the_latest_decoders_are_cached(recogniser: Recogniser) -> None:
    made = [recogniser.decoder(DecoderOptions("beam", beam=beam)) for beam in range(1, 11)]
    assert recogniser.decoder(DecoderOptions("beam", beam=10)) is made[-1]
    assert recogniser.decoder(DecoderOptions("beam", beam=3)) is made[2]
    assert recogniser.decoder(DecoderOptions("beam", beam=11)) is not None
    assert recogniser.decoder(DecoderOptions("beam", beam=3)) is made[2], (
        "the cached decoder is used"
    )
    assert recogniser.decoder(DecoderOptions("beam", beam=1)) is not made[0]


def test_two_threads_use_one_recogniser(recogniser: Recogniser) -> None:
    sources = [speak(text) for text in TEXTS * 4]
    both = (TranscribeOptions(batch_seconds=2.0), TranscribeOptions(DecoderOptions("beam")))
    alone = [list(recogniser.transcribe(sources, options)) for options in both]
    with ThreadPoolExecutor(4) as pool:
        together = list(
            pool.map(lambda options: list(recogniser.transcribe(sources, options)), both * 4)
        )
    assert together == alone * 4


def test_the_trained_network_recognises_words(trained: Path, corpus: Path) -> None:
    utterances = read_manifest(corpus / "test.jsonl")
    recogniser = load(trained)
    transcripts = list(recogniser.transcribe(u.audio_filepath for u in utterances))
    figures = score([normalise(u.text) for u in utterances], [t.text for t in transcripts])
    assert figures.words > 150
    assert figures.wer < 0.5
    for transcript in transcripts:
        times = [time for word in transcript.words for time in (word.start, word.end)]
        assert times == sorted(times)
        assert all(0 <= time <= transcript.seconds + 0.04 for time in times)


def test_log_probs_come_in_the_order_of_the_recordings(trained: Path, corpus: Path) -> None:
    recogniser = load(trained)
    paths = [u.audio_filepath for u in read_manifest(corpus / "test.jsonl")[:5]]
    for batch_seconds in (6.0, 0.1):
        options = TranscribeOptions(batch_seconds=batch_seconds)
        ran = list(recogniser.run(paths, options))
        assert len(ran) == len(paths)
        for path, (log_probs, seconds) in zip(paths, ran, strict=True):
            sound = audio.load(path)
            alone = recogniser.backend.log_probs([recogniser.backend.features(sound.samples)])[0]
            np.testing.assert_allclose(log_probs, alone, atol=1e-4, rtol=0)
            assert seconds == len(sound.samples) / 16000
    for path, (log_probs, _) in zip(paths, ran, strict=True):
        [transcript] = recogniser.transcribe(path)
        assert recogniser.decoder().decode(log_probs)[0].text == transcript.text


def test_a_recording_without_sound_is_blank_for_certain(trained: Path) -> None:
    recogniser = load(trained)
    still, sound = np.zeros(48000, np.float32), speak("A")
    for sources in ([still, sound, still], [still]):
        rows = [log_probs for log_probs, _ in recogniser.run(sources)]
        blank = [bool(np.isneginf(r[:, 1:]).all() and not r[:, 0].any()) for r in rows]
        assert blank == [source is still for source in sources]
        assert rows[0].shape == (round(3.0 / recogniser.frame_seconds), recogniser.tokenizer.size)
    for options in (
        DecoderOptions(),
        DecoderOptions("beam"),
        DecoderOptions("beam", word_bonus=9.0, phrases=("A",)),
    ):
        assert recogniser.decoder(options).decode(rows[0])[0].text == ""
    with pytest.raises(AsrError, match="they differ too much"):
        align(recogniser, still, "no word is said")


@pytest.mark.parametrize("values", ["fp32", "fp16"])
@pytest.mark.parametrize("fold", [False, True])
def test_a_packed_model_gives_the_texts_of_the_dense_one(
    tmp_path: Path, values: Literal["fp32", "fp16"], fold: bool
) -> None:
    pack(save_tone_model(tmp_path / "tone.asr"), tmp_path / "packed.asr", values, fold)
    packed = load(tmp_path / "packed.asr")
    transcripts = list(packed.transcribe(speak(text) for text in TEXTS))
    assert [t.text for t in transcripts] == TEXTS
    assert {t.model for t in transcripts} == {"packed.asr"}
