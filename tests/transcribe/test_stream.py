"""A stream gives the words of the whole recording, whatever the pieces; stable words stay."""

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from decoding_data import write_small_model
from model_files import network
from tone_network import RATE, save_tone_model, speak

from asr.audio.chunk import ChunkOptions
from asr.decode import DecoderOptions
from asr.decode.hypothesis import Word
from asr.errors import AsrError
from asr.features.settings import Frontend
from asr.model.dimensions import Model
from asr.model.file import save_model
from asr.model.pack import pack
from asr.text.tokenizer import CharacterTokenizer
from asr.transcribe.options import TranscribeOptions
from asr.transcribe.recogniser import Recogniser, load
from asr.transcribe.stream import Stream
from asr.transcribe.transcript import Transcript
from asr.transcribe.windows import WindowOptions

TEXT = "FEED A CAGED BEE BAD CAFE A BED EGG DAD"
WHOLE = ChunkOptions(chunk_seconds=1000)


@pytest.fixture(scope="module")
def recogniser(tmp_path_factory: pytest.TempPathFactory) -> Recogniser:
    """The tone network, which runs forward only and normalises nothing, on our kernels."""
    folder = tmp_path_factory.mktemp("model")
    pack(save_tone_model(folder / "tone.asr"), folder / "packed.asr")
    return load(folder / "packed.asr", threads=1)


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of random weights that writes many letters; its features are normalised."""
    dimensions = Model(conv_channels=[4, 4], hidden=48, layers=2, bidirectional=False)
    model = network(dimensions)
    with torch.no_grad():
        model.output.linear.weight.mul_(8.0)
    path = tmp_path_factory.mktemp("model") / "model.asr"
    save_model(path, model, CharacterTokenizer(), Frontend(normalise="running"))
    return path


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    samples = rng.normal(0, 0.1, round(seconds * RATE))
    return (samples * np.abs(np.sin(np.arange(len(samples)) / 4000))).astype(np.float32)


def run(
    stream: Stream, samples: np.ndarray, seed: int, shortest: float = 0.02, longest: float = 5.0
) -> tuple[list[Word], Transcript]:
    """The words that became stable on the way, and the transcript, over random pieces."""
    rng, reached, stable = np.random.default_rng(seed), 0, list[Word]()
    while reached < len(samples):
        seconds = np.exp(rng.uniform(np.log(shortest), np.log(longest)))
        update = stream.push(samples[reached : reached + round(seconds * RATE)])
        reached = min(reached + round(seconds * RATE), len(samples))
        stable += update.stable
        assert update.seconds == reached / RATE
        assert [word.start for word in stable] == sorted(word.start for word in stable)
        if stable and update.provisional:
            assert update.provisional[0].start >= stable[-1].end
    return stable, stream.finish()


@pytest.mark.parametrize(
    "decoding", [None, DecoderOptions("beam"), "lm"], ids=["greedy", "beam", "beam and lm"]
)
@pytest.mark.parametrize("longest", [0.02, 0.3, 5.0])
def test_the_text_is_that_of_the_recording(
    recogniser: Recogniser, tmp_path: Path, decoding: DecoderOptions | str | None, longest: float
) -> None:
    if decoding == "lm":
        decoding = DecoderOptions("beam", lm=write_small_model(tmp_path), lm_weight=0.3)
    options, samples = TranscribeOptions(decoding, WHOLE), speak(TEXT)
    [whole] = recogniser.transcribe(samples, options)
    stream = recogniser.stream(options)
    stable, found = run(stream, samples, seed=1, longest=longest)
    assert stream.exact
    assert (found.text, found.seconds) == (whole.text, whole.seconds) == (TEXT, stream.seconds)
    assert found.words[: len(stable)] == tuple(stable)
    if options.decoding is None and longest < 1:  # greedy: all words but the last one, at once
        assert len(stable) >= len(TEXT.split()) - 1
    for ours, theirs in zip(found.words, whole.words, strict=True):
        assert (ours.start, ours.end) == pytest.approx((theirs.start, theirs.end))
        assert ours.confidence == pytest.approx(theirs.confidence, abs=0.1)


def test_words_are_stable_before_the_next_but_one_is_said(recogniser: Recogniser) -> None:
    stream, samples, when = recogniser.stream(), speak(TEXT), dict[float, float]()
    for i in range(0, len(samples), 320):
        update = stream.push(samples[i : i + 320])
        when |= {word.end: update.seconds for word in update.stable}
    assert len(when) == len(TEXT.split()) - 1
    assert all(now - end < 0.35 for end, now in when.items())


def test_a_beam_decides_words_that_ended_before_the_limit(recogniser: Recogniser) -> None:
    options = TranscribeOptions(DecoderOptions("beam"), ChunkOptions(1.5, 0.0))
    stream, samples = recogniser.stream(options), speak(TEXT)
    for i in range(0, len(samples), 320):
        update = stream.push(samples[i : i + 320])
        for word in update.provisional:
            assert word.end > update.seconds - 1.6
    assert stream.finish().text == TEXT


@pytest.mark.parametrize("backend", ["native", "torch"])
@pytest.mark.parametrize("beam", [False, True], ids=["greedy", "beam and lm"])
def test_random_pieces_of_an_untrained_network(
    untrained: Path, tmp_path: Path, backend: str, beam: bool
) -> None:
    lm = write_small_model(tmp_path) if beam else ""
    decoding = DecoderOptions("beam", lm=lm, lm_weight=0.5) if beam else DecoderOptions()
    recogniser = load(untrained, 1, backend)
    options, samples = TranscribeOptions(decoding, WHOLE), noise(5.0)
    [whole] = recogniser.transcribe(samples, options)
    assert len(whole.text) > 10
    for seed in range(2):
        _, found = run(recogniser.stream(options), samples, seed)
        assert found.text == whole.text


@pytest.mark.parametrize("seconds", [0.0, 0.01, 0.03, 0.1])
def test_short_streams_and_silent_ones_are_as_short_and_silent_recordings(
    untrained: Path, seconds: float
) -> None:
    recogniser = load(untrained, 1)
    for samples in (noise(seconds), np.full(round(seconds * RATE) + 4 * RATE, 0.25, np.float32)):
        whole = list(recogniser.transcribe([samples])) if len(samples) else []
        stream = recogniser.stream()
        stream.push(samples)
        assert stream.finish().text == (whole[0].text if whole else "")


def test_words_in_doubt_for_too_long_are_decided_and_memory_is_bounded(untrained: Path) -> None:
    # Noise of which the network makes hardly a word: without a limit nothing would be stable.
    options = TranscribeOptions(DecoderOptions("beam"), ChunkOptions(1.0, 0.0))
    stream = load(untrained, 1).stream(options)
    stable = list[Word]()
    for i in range(40):
        stable += stream.push(noise(0.5, i)).stable
        rows = stream._core._rows  # type: ignore[attr-defined]
        assert len(rows) <= 2 * 25 + 13
    found = stream.finish()
    assert found.words[: len(stable)] == tuple(stable)
    assert stable[-1].end > 15


@pytest.mark.parametrize("decoder", ["greedy", "beam"])
def test_a_pause_longer_than_the_limit_loses_no_words(
    recogniser: Recogniser, decoder: Literal["greedy", "beam"]
) -> None:
    options = TranscribeOptions(DecoderOptions(decoder), ChunkOptions(1.0, 0.0))
    still = np.zeros(5 * RATE, np.float32)
    samples = np.concatenate([still, speak("BAD "), still, still, speak("A BED"), still])
    stream = recogniser.stream(options)
    for first in range(0, len(samples), 3200):
        stream.push(samples[first : first + 3200])
        assert len(stream._core._rows) <= 2.2 / recogniser.frame_seconds  # type: ignore[attr-defined]
    found = stream.finish()
    assert found.text == "BAD A BED"
    assert [round(word.start) for word in found.words] == [5, 16, 16]


def test_many_streams_of_one_recogniser_do_not_mix(recogniser: Recogniser) -> None:
    texts = ["BAD CAFE", "A BED", "FEED A CAGED BEE"]
    streams = [recogniser.stream() for _ in texts]
    for i in range(0, 60000, 800):
        for stream, text in zip(streams, texts, strict=True):
            stream.push(speak(text)[i : i + 800])
    assert [stream.finish().text for stream in streams] == texts


def test_a_bidirectional_network_streams_in_windows_and_says_so(trained: Path) -> None:
    stream = load(trained).stream()
    assert not stream.exact
    assert "bidirectional" in stream.note
    stream.push(noise(1.0))
    assert stream.finish().seconds == 1.0


def test_what_a_stream_cannot_do_is_refused(recogniser: Recogniser) -> None:
    stream = recogniser.stream(TranscribeOptions(case="lower"))
    stream.push((speak("BAD CAFE") * 2**15).astype(np.int16))  # integers too
    row = np.zeros(100, np.float32)
    rated = (row, 8000), {"array": row, "sampling_rate": 8000}
    for samples in ("talk.wav", np.zeros((2, 100), np.float32), *rated):
        with pytest.raises(AsrError, match=r"a waveform at 16000 Hz: .* without a sample rate"):
            stream.push(samples)
    with pytest.raises(AsrError, match="not a number"):
        stream.push(np.full(9, np.nan, np.float32))
    assert stream.finish().text == "bad cafe"
    with pytest.raises(AsrError, match="finished"):
        stream.push(np.zeros(100, np.float32))
    with pytest.raises(AsrError, match="finished"):
        stream.finish()
    for options, message in (
        (TranscribeOptions(channel=1), "channel=1"),
        (TranscribeOptions(DecoderOptions("beam", nbest=2)), "nbest=2"),
        (TranscribeOptions(chunks=ChunkOptions(split_on_silence=True)), "split_on_silence"),
        (TranscribeOptions(chunks=ChunkOptions(overlap_seconds=5.0)), "overlap_seconds=5: "),
    ):
        with pytest.raises(AsrError, match=message):
            recogniser.stream(options)
    with pytest.raises(AsrError, match="without windows"):
        recogniser.stream(windows=WindowOptions())
