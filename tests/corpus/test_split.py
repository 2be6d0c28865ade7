"""A manifest is dealt so that no speaker, or else no recording, is in two sets."""

import pytest
from command_line import run_asr

from asr.corpus.manifest import Utterance, read_manifest, write_manifest
from asr.corpus.split import split
from asr.errors import AsrError


def utterances(speakers: int, each: int, seconds: float = 2.0) -> list[Utterance]:
    return [
        Utterance(f"{s}-{i}", f"{s}/{i}.wav", seconds, "one", f"s{s}" if speakers > 1 else "")
        for s in range(speakers)
        for i in range(each)
    ]


def test_speakers_are_dealt_whole_and_fractions_are_met():
    rows = utterances(40, 5)
    sets, what = split(rows, 0.1, 0.2)
    assert what == "speakers"
    assert sum(map(len, sets.values())) == len(rows)
    voices = {name: {u.speaker for u in found} for name, found in sets.items()}
    assert not voices["train"] & voices["dev"]
    assert not (voices["train"] | voices["dev"]) & voices["test"]
    assert {name: len(found) for name, found in voices.items()} == {
        "train": 28, "dev": 4, "test": 8,
    }  # fmt: skip
    assert sets["train"] == [u for u in rows if u.speaker in voices["train"]]


def test_the_same_seed_gives_the_same_sets_and_another_gives_others():
    rows = utterances(40, 2)
    assert split(rows, 0.1, 0.1, 7) == split(list(rows), 0.1, 0.1, 7)
    assert split(rows, 0.1, 0.1, 7) != split(rows, 0.1, 0.1, 8)


def test_unknown_or_few_speakers_mean_recordings_with_all_their_parts():
    parts = [
        Utterance(f"{r}-{i}", f"{r}.wav", 2.0, "one", "anna", offset=2.0 * i)
        for r in range(10)
        for i in range(4)
    ]
    sets, what = split(parts, 0.2, 0.2)
    assert what == "recordings"
    places = [{u.audio_filepath for u in found} for found in sets.values()]
    assert [len(found) for found in places] == [6, 2, 2]
    assert len(set.union(*places)) == 10
    _, what = split(utterances(1, 30), 0.1, 0.1)
    assert what == "recordings"


def test_a_long_speaker_is_not_taken_for_a_small_set():
    rows = [*utterances(20, 2), *(Utterance(f"x{i}", f"x/{i}.wav", 100, "a", "x") for i in (1, 2))]
    for seed in range(10):
        sets, _ = split(rows, 0.05, 0.05, seed)
        assert all(u.speaker != "x" for name in ("dev", "test") for u in sets[name])


def test_without_a_test_fraction_there_is_no_test_set():
    assert list(split(utterances(20, 2), 0.1, 0.0)[0]) == ["train", "dev"]


@pytest.mark.parametrize(
    ("count", "dev", "test", "fragment"),
    [
        (20, 0.0, 0.1, "dev=0, test=0.1: fractions"),
        (20, 0.5, 0.5, "fractions that leave something to train on"),
        (20, -0.1, 0.1, "fractions"),
        (2, 0.1, 0.1, "2 recordings: too few, nothing is left for train"),
    ],
)
def test_what_cannot_be_dealt_is_refused(count, dev, test, fragment):
    with pytest.raises(AsrError, match=fragment):
        split(utterances(1, count), dev, test)


def test_the_command_writes_three_manifests_and_overwrites_none(tmp_path):
    write_manifest(tmp_path / "all.jsonl", utterances(1, 30))
    done = run_asr("corpus", "split", tmp_path / "all.jsonl")
    assert done.returncode == 0, done.stderr
    assert "recordings were dealt, not speakers" in done.stdout
    sizes = [len(read_manifest(tmp_path / f"{n}.jsonl")) for n in ("train", "dev", "test")]
    assert sizes == [24, 3, 3]
    again = run_asr("corpus", "split", tmp_path / "all.jsonl")
    assert again.returncode == 2
    assert "train.jsonl" in again.stderr
    assert "there already" in again.stderr
