"""The built-in corpus on disk: complete or absent, reproducible, with separate parts."""

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.audio import simulate
from asr.corpus.manifest import Utterance, read_manifest
from asr.corpus.spoken import build as spoken
from asr.corpus.spoken import espeak, record
from asr.corpus.spoken.settings import PARTS, Spoken
from asr.errors import AsrError

SMALL = Spoken(train_hours=0.035, dev_hours=0.02, test_hours=0.02)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Utterance]]:
    """All parts of a small corpus: by processes for train (126 s), else by this process."""
    root = tmp_path_factory.mktemp("spoken")
    return {part: read_manifest(spoken.ensure(part, SMALL, root)) for part in PARTS}


def digest(folder: Path) -> dict[str, str]:
    """Content of every file below, hidden ones left out."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }


def corpus_of(made: dict[str, list[Utterance]]) -> Path:
    return Path(made["dev"][0].audio_filepath).parents[2]


def test_parts_have_the_hours_that_were_asked_for(made):
    for part, hours in [("train", 0.035), ("dev", 0.02), ("test", 0.02)]:
        seconds = sum(u.duration for u in made[part])
        assert hours * 3600 <= seconds < hours * 3600 + 10


def test_recordings_are_those_of_the_manifest_and_sixteen_bit_flac_at_sixteen_kilohertz(made):
    folder = corpus_of(made)
    for part in PARTS:
        files = {str(path) for path in (folder / part).rglob("*.flac")}
        assert files == {u.audio_filepath for u in made[part]}
    info = soundfile.info(made["dev"][0].audio_filepath)
    assert (info.format, info.subtype, info.samplerate, info.channels) == (
        "FLAC",
        "PCM_16",
        16000,
        1,
    )
    line = json.loads((folder / "dev.jsonl").read_text().splitlines()[0])
    assert set(line) == {"audio_filepath", "duration", "text", "speaker", "id"}
    assert line["audio_filepath"] == "dev/000/dev-000000.flac"
    assert line["duration"] == pytest.approx(info.frames / 16000)


def test_no_recording_is_silent_or_clipped(made):
    for utterance in (u for part in PARTS for u in made[part]):
        samples, _ = soundfile.read(utterance.audio_filepath)
        assert 0.05 < np.abs(samples).max() <= 0.901, utterance.id
        frames = samples[: len(samples) // 400 * 400].reshape(-1, 400)
        power = 10 * np.log10(np.mean(frames**2, axis=1))
        assert np.percentile(power, 90) - np.percentile(power, 5) > 10, utterance.id


def test_ctc_can_align_every_recording_at_the_highest_speed(made):
    for utterance in (u for part in PARTS for u in made[part]):
        frames = len(utterance.text) + sum(a == b for a, b in pairwise(utterance.text))
        assert frames <= utterance.duration / 1.1 / 0.040 - 1, utterance


def test_no_speaker_sentence_or_id_is_in_two_parts(made):
    for of in (lambda u: u.text, lambda u: u.speaker.split("-p")[0], lambda u: u.id):
        sets = [{of(u) for u in made[part]} for part in PARTS]
        assert sum(map(len, sets)) == len(set().union(*sets))


@pytest.mark.parametrize("seed", [1, 2])
def test_speakers_of_parts_differ_by_accent_or_variant_and_not_only_by_pitch(seed):
    voices = {part: espeak.voices(part, seed) for part in PARTS}
    pairs = {part: {(v.accent, v.variant) for v in voices[part]} for part in PARTS}
    assert len(pairs["train"]) >= 150
    assert 20 <= len(pairs["dev"]) <= 30
    assert 20 <= len(pairs["test"]) <= 30
    assert sum(map(len, pairs.values())) == len(set().union(*pairs.values()))


def test_all_accents_and_variants_are_trained_on():
    trained = espeak.voices("train", 1)
    assert {v.accent for v in trained} == set(espeak.ACCENTS)
    assert {v.variant for v in trained} == set(espeak.VARIANTS)


def test_a_second_call_does_nothing(made, monkeypatch):
    folder = corpus_of(made)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    monkeypatch.setattr(espeak, "speak", None)
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    assert spoken.ensure("dev", SMALL, folder.parents[1]) == folder / "dev.jsonl"
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_a_second_build_has_the_same_bytes_with_one_process_or_several(made, tmp_path):
    again = spoken.ensure("train", replace(SMALL, processes=1), tmp_path).parent
    first = digest(corpus_of(made))
    assert digest(again) == {
        name: d for name, d in first.items() if "train" in name or name == "spoken.json"
    }


def test_another_seed_gives_other_speakers_sentences_and_rooms(made, tmp_path):
    other = read_manifest(spoken.ensure("dev", replace(SMALL, dev_hours=0.01, seed=2), tmp_path))
    one = made["dev"][: len(other)]
    assert [u.text for u in other] != [u.text for u in one]
    assert Path(other[0].audio_filepath).read_bytes() != Path(one[0].audio_filepath).read_bytes()
    assert not {u.speaker for u in other} & {u.speaker for u in one}


def test_a_change_of_the_drawn_values_needs_a_new_edition():
    drawn = []
    for vocabulary in ("small", "large"):
        for part in PARTS:
            lines = islice(spoken.lines(part, Spoken(vocabulary=vocabulary)), 300)
            drawn += [f"{line.voice.name} {line.text}" for line in lines]
    room = simulate.draw_room(np.random.default_rng([1, 0, 0]))
    drawn.append(f"{room.noise} {room.snr_decibels:.3f} {room.level_decibels:.3f}")
    found = hashlib.sha256("\n".join(drawn).encode()).hexdigest()[:16]
    assert (spoken.EDITION, found) == (1, "6458fbb24869627a")


CHILD = """
import os
from pathlib import Path
from asr.corpus.spoken import build as spoken
from asr.corpus.spoken.settings import Spoken

if __name__ == "__main__":
    settings = Spoken(dev_hours={hours})
    print(spoken.ensure("dev", settings, Path({root!r}), {progress}))
"""


def child(root: Path, hours: float, progress: str = "None") -> subprocess.Popen:
    script = root / "make.py"
    script.write_text(CHILD.format(root=str(root), hours=hours, progress=progress))
    return subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("hours", [0.03, 0.1], ids=["alone", "with processes"])
def test_a_killed_build_leaves_nothing_that_looks_finished(tmp_path, hours):
    death = "lambda fraction: os.kill(os.getpid(), 9)"
    process = child(tmp_path, hours, death)
    process.communicate(
        timeout=20
    )  # until its workers, which write to the same output, have ended too
    assert process.returncode == -9
    folder = spoken.folder_of(Spoken(dev_hours=hours), tmp_path)
    assert not (folder / "dev.jsonl").exists()


def test_a_killed_build_is_continued_without_recording_anything_twice(tmp_path, monkeypatch):
    settings = Spoken(dev_hours=0.02, processes=1)
    reference = digest(spoken.ensure("dev", settings, tmp_path / "reference").parent)
    process = child(tmp_path, 0.02, "lambda f: f > 0.5 and os.kill(os.getpid(), 9)")
    process.communicate(timeout=60)
    folder = spoken.folder_of(settings, tmp_path)
    finished = set(folder.rglob("*.flac"))
    (folder / "dev" / ".chunks" / "000000.json").unlink()  # as if killed while it was recorded
    recorded = []
    perform = record.perform
    monkeypatch.setattr(
        record, "perform", lambda line, *args: recorded.append(line.number) or perform(line, *args)
    )
    spoken.ensure("dev", settings, tmp_path)
    assert digest(folder) == reference
    assert len(finished) >= 16
    assert recorded == [*range(8), *range(len(finished), max(recorded) + 1)]


def test_an_error_leaves_what_was_recorded_and_no_manifest(tmp_path, monkeypatch):
    def fail(*_: object) -> None:
        raise AsrError("disk full")

    monkeypatch.setattr(record, "perform", fail)
    settings = Spoken(dev_hours=0.005)
    with pytest.raises(AsrError, match="disk full"):
        spoken.ensure("dev", settings, tmp_path)
    folder = spoken.folder_of(settings, tmp_path)
    assert sorted(p.name for p in folder.iterdir()) == [".lock", "dev", "spoken.json"]


def test_opus_recordings_are_smaller_and_have_the_same_length(made, tmp_path):
    settings = replace(SMALL, dev_hours=0.005, audio="opus")
    utterances = read_manifest(spoken.ensure("dev", settings, tmp_path))
    first = Path(utterances[0].audio_filepath)
    assert first.suffix == ".opus"
    assert spoken.folder_of(settings, tmp_path).name.startswith("small-opus-")
    info = soundfile.info(first)
    assert (info.format, info.subtype, info.samplerate) == ("OGG", "OPUS", 16000)
    for opus, flac in zip(utterances, made["dev"], strict=False):
        assert (opus.text, opus.speaker, opus.duration) == (flac.text, flac.speaker, flac.duration)
        decoded, _ = soundfile.read(opus.audio_filepath)
        assert len(decoded) == round(opus.duration * 16000)
    sizes = [Path(u.audio_filepath).stat().st_size for u in (*utterances, *made["dev"])]
    opus_size, flac_size = sum(sizes[: len(utterances)]), sum(sizes[len(utterances) :])
    seconds = [sum(u.duration for u in part) for part in (utterances, made["dev"])]
    assert opus_size / seconds[0] * 8 < 32_000
    assert opus_size / seconds[0] < 0.25 * flac_size / seconds[1]


def test_two_processes_at_once_make_one_corpus(tmp_path):
    processes = [child(tmp_path, 0.02) for _ in range(2)]
    outputs = [process.communicate(timeout=60)[0].strip() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert outputs[0] == outputs[1]
    utterances = read_manifest(outputs[0])
    assert all(Path(u.audio_filepath).is_file() for u in utterances)
    assert sorted(os.listdir(Path(outputs[0]).parent)) == [
        ".lock",
        "dev",
        "dev.jsonl",
        "spoken.json",
    ]


def test_progress_ends_at_one(tmp_path):
    fractions: list[float] = []
    spoken.ensure("dev", Spoken(dev_hours=0.02), tmp_path, fractions.append)
    assert fractions == sorted(fractions)
    assert len(fractions) > 1
    assert fractions[-1] == 1.0


def test_a_folder_of_other_settings_is_refused_with_the_difference(tmp_path):
    settings = Spoken(dev_hours=0.002, folder=str(tmp_path / "here"))
    assert spoken.ensure("dev", settings) == tmp_path / "here" / "dev.jsonl"
    with pytest.raises(AsrError, match=r"other settings \(seed=1 instead of 5\)"):
        spoken.ensure("dev", replace(settings, seed=5))


@pytest.mark.parametrize("name", ["test", "dev.jsonl"])
def test_a_folder_with_something_else_in_it_is_refused(tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises(AsrError, match="not part of a spoken corpus"):
        spoken.ensure("dev", Spoken(folder=str(tmp_path)))
    assert os.listdir(tmp_path) == [name]


def test_negative_seed_is_refused(tmp_path):
    with pytest.raises(AsrError, match=r"data\.spoken\.seed=-1: 0 or more"):
        spoken.ensure("dev", replace(SMALL, seed=-1), tmp_path)


def test_unknown_part_lists_the_parts(tmp_path):
    with pytest.raises(AsrError, match="train, dev, test"):
        spoken.ensure("trian", SMALL, tmp_path)


def test_a_missing_synthesiser_names_the_extra_and_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(AsrError, match=r"pip install '\.\[demo\]'"):
        spoken.ensure("dev", SMALL, tmp_path)
    assert not os.listdir(tmp_path)
