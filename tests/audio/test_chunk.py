"""Long recordings: every sample in a chunk, every word once, memory bounded by the chunk."""

import resource
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
from command_line import run_asr
from tone_network import LETTERS, RATE, save_tone_model, speak

from asr import audio
from asr.audio import chunk as chunks
from asr.audio.chunk import ChunkOptions, Place, find_quiet, split
from asr.corpus.manifest import read_manifest
from asr.decode.hypothesis import Word, text_of
from asr.errors import AsrError
from asr.transcribe.options import TranscribeOptions
from asr.transcribe.recogniser import Recogniser, load
from asr.transcribe.stitch import join_words


def places_of(samples: np.ndarray, rate: int, options: ChunkOptions) -> list[tuple[float, float]]:
    return [(c.place.start, c.place.end) for c in split([samples], rate, options)]


def chunks_of_file(path: Path, options: ChunkOptions | None = None) -> Iterator[chunks.Chunk]:
    with audio.open_recording(path) as recording:
        yield from split(audio.stream(recording), RATE, options)


@pytest.mark.parametrize("seconds", [0.5, 9.99, 10.0, 10.01, 17.9, 18.0, 18.1, 20.0, 33.3, 57.0])
@pytest.mark.parametrize("block", [7, 1000, 100000])
def test_every_sample_is_in_a_chunk_and_neighbours_have_the_overlap_in_common(
    seconds: float, block: int
) -> None:
    rate = 100
    samples = np.random.default_rng(1).standard_normal(round(seconds * rate)).astype(np.float32)
    blocks = (samples[i : i + block] for i in range(0, len(samples), block))
    got = list(split(blocks, rate, ChunkOptions(10.0, 2.0)))
    for chunk in got:
        first, last = round(chunk.place.start * rate), round(chunk.place.end * rate)
        assert (chunk.samples == samples[first:last]).all()
        assert len(chunk.samples) == last - first == min(10 * rate, len(samples))
    assert got[0].place.start == 0
    assert got[-1].place.end == len(samples) / rate
    for before, after in pairwise(got[:-1]):
        assert before.place.end - after.place.start == pytest.approx(2.0)
    for before, after in pairwise(got):
        assert before.place.end - after.place.start >= 2.0 - 1e-9


def test_no_samples_give_no_chunks() -> None:
    assert list(split([np.zeros(0, np.float32)], 100)) == []
    assert list(split(iter([]), 100)) == []


def bursts(pauses: list[tuple[float, float]], seconds: float, rate: int = 1000) -> np.ndarray:
    """Loud noise with a faint one in the pauses given as (start, end)."""
    samples = np.random.default_rng(2).standard_normal(round(seconds * rate)) * 0.3
    for start, end in pauses:
        samples[round(start * rate) : round(end * rate)] *= 1e-3
    return samples.astype(np.float32)


def test_split_on_silence_splits_in_pauses_without_overlap() -> None:
    pauses = [(3.0, 3.5), (7.0, 7.6), (14.0, 14.5), (22.0, 23.0), (28.5, 29.0)]
    places = places_of(bursts(pauses, 31.0), 1000, ChunkOptions(10.0, 2.0, split_on_silence=True))
    assert places[0][0] == 0
    assert places[-1][1] == 31.0
    for (_, end), (start, _) in pairwise(places):
        assert end == start
        assert any(low <= end <= high for low, high in pauses)
    assert all(end - start <= 10 for start, end in places)


def test_split_on_silence_overlaps_where_there_is_no_pause() -> None:
    places = places_of(
        bursts([(12.0, 12.5)], 20.0), 1000, ChunkOptions(8.0, 1.0, split_on_silence=True)
    )
    (_, first_end), (second_start, second_end), (third_start, _) = places[:3]
    assert (first_end, second_start) == (8.0, 7.0)
    assert second_end == third_start
    assert 12.0 <= second_end <= 12.5


@pytest.mark.parametrize("seconds", [8.01, 9.0, 11.0, 15.9, 16.0])
def test_split_on_silence_leaves_no_tiny_chunk_at_the_end(seconds: float) -> None:
    pauses = [(i, i + 0.3) for i in range(1, 16)]
    places = places_of(bursts(pauses, seconds), 1000, ChunkOptions(8.0, 1.0, split_on_silence=True))
    assert all(2.0 <= end - start <= 8.0 for start, end in places)


def test_a_pause_is_judged_by_the_recording_not_by_a_fixed_level() -> None:
    for gain in (1e-3, 1.0, 3.0):
        quiet = find_quiet(gain * bursts([(6.0, 6.4)], 10.0), 1000, 5000, 10000)
        assert quiet is not None
        assert 6000 < quiet < 6400
    assert find_quiet(bursts([], 10.0), 1000, 5000, 10000) is None
    assert find_quiet(bursts([(2.0, 2.5)], 10.0), 1000, 5000, 10000) is None
    short = bursts([(6.0, 6.1)], 10.0)
    assert find_quiet(short, 1000, 5000, 10000) is None, "0.1 s is within a word"


@pytest.mark.parametrize(
    ("values", "fragment"),
    [
        ({"chunk_seconds": 0.5}, "chunk_seconds=0.5: at least 1"),
        ({"overlap_seconds": -1.0}, "overlap_seconds=-1.0"),
        ({"chunk_seconds": 5.0, "overlap_seconds": 3.0}, "half of chunk_seconds=5"),
    ],
)
def test_impossible_options_are_refused(values: dict, fragment: str) -> None:
    with pytest.raises(AsrError, match=fragment):
        ChunkOptions(**values)


def word(text: str, start: float, end: float, confidence: float = 0.9) -> Word:
    return Word(text, start, end, confidence)


def seam(left: list[Word], right: list[Word]) -> str:
    """Chunks from 0 to 10 s and from 8 to 18 s; the words of the second given globally."""
    local = [w.shifted(-8.0) for w in right]
    return text_of(join_words([(Place(0, 10), left), (Place(8, 18), local)]))


def test_a_word_in_both_chunks_is_written_once() -> None:
    left = [word("A", 7, 7.5), word("B", 8.3, 8.6), word("C", 8.9, 9.2), word("DX", 9.7, 10)]
    right = [word("XB", 8.0, 8.5), word("C", 8.95, 9.25), word("D", 9.6, 9.9), word("E", 11, 12)]
    assert seam(left, right) == "A B C D E"


def test_the_change_is_made_at_the_equal_word_nearest_to_the_centre() -> None:
    left = [word("B", 8.2, 8.4), word("C", 8.9, 9.1), word("D", 9.5, 9.8)]
    right = [word("B", 8.2, 8.4), word("X", 8.6, 8.7), word("C", 8.9, 9.1), word("D", 9.5, 9.7)]
    assert seam(left, right) == "B C D"


def test_a_word_spoken_twice_is_written_twice() -> None:
    left = [word("NO", 8.6, 8.8), word("NO", 9.2, 9.4)]
    assert seam(left, left) == "NO NO"


@pytest.mark.parametrize("at", np.arange(8.0, 9.9, 0.05).round(2))
@pytest.mark.parametrize("late", [-0.03, 0.0, 0.03])
def test_a_word_spoken_twice_in_quick_succession_is_written_twice(at: float, late: float) -> None:
    times = [6.0, at, at + 0.24, 12.0]
    words = [word(t, s, s + 0.2) for t, s in zip(("A", "NO", "NO", "B"), times, strict=True)]
    left = [w for w in words if w.end <= 10]
    right = [w.shifted(late) for w in words if w.start + late >= 8]
    if len(left) > 2 or len(right) > 2:  # otherwise neither chunk has both
        assert seam(left, right) == "A NO NO B"


def test_without_an_equal_word_the_change_is_made_in_a_gap() -> None:
    left = [word("A", 8.2, 8.6), word("BAT", 8.7, 9.2), word("X", 9.5, 9.9)]
    right = [word("E", 8.2, 8.6), word("BAD", 8.7, 9.15), word("Y", 9.5, 9.9)]
    assert seam(left, right) == "A BAT Y"


def test_of_two_hypotheses_for_the_word_at_the_centre_the_more_confident_is_written() -> None:
    left = [word("LEFT", 8.1, 9.9, 0.4)]
    right = [word("RIGHT", 8.2, 9.95, 0.7)]
    assert seam(left, right) == "RIGHT"
    assert seam([word("LEFT", 8.1, 9.8, 0.8)], right) == "LEFT"
    # Both middles are on the far side of the seam: neither chunk would contain the word.
    lost_left, lost_right = word("L", 8.2, 9.98, 0.8), word("R", 8.05, 9.8, 0.3)
    assert seam([lost_left], [lost_right]) == "L"


def test_chunks_without_overlap_are_concatenated() -> None:
    words = join_words(
        [(Place(0, 10), [word("A", 9.9, 10.02)]), (Place(10, 20), [word("A", 0, 0.1)])]
    )
    assert words == [word("A", 9.9, 10.0), word("A", 10.0, 10.1)]
    assert join_words([]) == []
    assert seam([], [word("B", 9.2, 9.4)]) == "B"
    assert seam([word("B", 8.2, 8.4)], []) == "B"


def random_text(words: int, seed: int = 3) -> str:
    draw = np.random.default_rng(seed)
    letters = LETTERS.strip()
    return " ".join(
        "".join(draw.choice(list(letters), size=draw.integers(1, 7))) for _ in range(words)
    )


@pytest.fixture(scope="module")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Recogniser:
    return load(save_tone_model(tmp_path_factory.mktemp("model") / "tone.asr"))


@pytest.mark.parametrize("options", [ChunkOptions(5.0, 2.5), ChunkOptions(8.0, 3.0)])
@pytest.mark.parametrize("shift", [0.0, 0.3, 0.6, 0.9])
def test_no_word_is_doubled_or_lost_wherever_the_seams_fall(
    tones: Recogniser, options: ChunkOptions, shift: float
) -> None:
    text = random_text(80)
    samples = np.concatenate([np.zeros(round(shift * RATE), np.float32), speak(text)])
    whole, split = (
        next(tones.transcribe(samples, TranscribeOptions(chunks=o)))
        for o in (ChunkOptions(1000.0), options)
    )
    assert whole.text == text
    assert split.text == text
    for a, b in zip(whole.words, split.words, strict=True):
        assert a.start == pytest.approx(b.start, abs=0.02)
        assert a.end == pytest.approx(b.end, abs=0.02)


def test_the_text_of_a_long_file_is_that_of_its_parts_away_from_seams(
    trained: Path, corpus: Path, tmp_path: Path
) -> None:
    recogniser = load(trained)
    utterances = read_manifest(corpus / "test.jsonl")[:16]
    samples = np.concatenate([audio.load(u.audio_filepath).samples for u in utterances])
    soundfile.write(tmp_path / "long.wav", samples, 16000, subtype="FLOAT")
    options = ChunkOptions(10.0, 2.0)
    [long] = recogniser.transcribe(tmp_path / "long.wav", TranscribeOptions(chunks=options))
    assert [w.start for w in long.words] == sorted(w.start for w in long.words)
    compared = 0
    parts = list(split([samples], 16000, options))
    assert len(parts) >= 4
    for index, part in enumerate(parts):
        [alone] = recogniser.transcribe(part.samples)
        # The last part reaches further back: seams lie between the ends of neighbours.
        low = parts[index - 1].place.end if index else 0.0
        high = parts[index + 1].place.start if index + 1 < len(parts) else part.place.end
        there = [w.text for w in long.words if low < w.start and w.end < high]
        here = [w.shifted(part.place.start) for w in alone.words]
        assert there == [w.text for w in here if low < w.start and w.end < high]
        compared += len(there)
    assert compared > 0.5 * len(long.words)


def test_blocks_of_a_resampled_file_are_what_loading_it_gives(tmp_path: Path) -> None:
    samples = 0.3 * np.random.default_rng(1).standard_normal((44100 * 30, 2))
    soundfile.write(tmp_path / "a.wav", samples, 44100, subtype="PCM_16")
    whole = audio.load(tmp_path / "a.wav").samples
    got = list(chunks_of_file(tmp_path / "a.wav", ChunkOptions(8.0, 0.0)))
    assert got[-1].place.end == pytest.approx(30.0, abs=1e-3)
    for chunk in got:
        first = round(chunk.place.start * 16000)
        expected = whole[first : first + len(chunk.samples)]
        assert np.abs(chunk.samples[: len(expected)] - expected).max() < 1e-4


def test_a_long_truncated_file_is_refused_at_its_end(tmp_path: Path) -> None:
    path = tmp_path / "truncated.wav"
    soundfile.write(path, np.zeros(16000 * 40, np.int16), 16000)
    path.write_bytes(path.read_bytes()[: 16000 * 2 * 30])
    with pytest.raises(AsrError, match="truncated"):
        list(chunks_of_file(path))


def write_long(path: Path, minutes: int, rate: int = 44100) -> Path:
    """A long file, written block by block."""
    block = (0.1 * np.random.default_rng(1).standard_normal(60 * rate)).astype(np.float32)
    with soundfile.SoundFile(path, "w", rate, 1, subtype="PCM_16") as file:
        for _ in range(minutes):
            file.write(block)
    return path


def peak_megabytes(chunks_of: Iterator[chunks.Chunk]) -> float:
    tracemalloc.start()
    try:
        for _ in chunks_of:
            pass
        return tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_recording(tmp_path: Path) -> None:
    short, long = (
        peak_megabytes(chunks_of_file(write_long(tmp_path / f"{m}.wav", m))) for m in (2, 8)
    )
    assert long < 1.1 * short
    assert long < 16


@pytest.mark.slow
def test_two_hours_take_less_than_a_gigabyte(trained: Path, tmp_path: Path) -> None:
    path = write_long(tmp_path / "long.wav", 120, rate=16000)
    result = run_asr("transcribe", path, "--model", trained, "-o", tmp_path / "out", timeout=3000)
    assert result.returncode == 0, result.stderr
    # Peak memory of the largest child process, in kilobytes.
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 2**20


def test_splitting_needs_no_torch() -> None:
    code = "import sys, asr.audio.chunk; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
