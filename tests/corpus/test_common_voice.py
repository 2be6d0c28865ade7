"""Common Voice is read from its own tables."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.corpus import common_voice
from asr.corpus.commands import make_common_voice
from asr.corpus.manifest import Utterance, read_manifest
from asr.errors import AsrError

HEADER = "client_id\tpath\tsentence_id\tsentence\tup_votes\n"


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """cv-corpus/en with two clips."""
    folder = tmp_path / "cv-corpus-99" / "en"
    (folder / "clips").mkdir(parents=True)
    for number, seconds in enumerate((0.5, 0.75), start=1):
        soundfile.write(
            folder / "clips" / f"common_voice_en_{number}.mp3",
            np.random.default_rng(number).normal(0, 0.1, round(seconds * 32000)),
            32000,
        )
    rows = [
        'ab12\tcommon_voice_en_1.mp3\ts1\t"Don’t," she said.\t2\n',
        "cd34\tcommon_voice_en_2.mp3\ts2\tUp.\t2\n",
    ]
    (folder / "train.tsv").write_text(HEADER + "".join(rows))
    (folder / "test.tsv").write_text(HEADER + rows[1])
    return folder


def test_a_part_is_read_with_speakers_and_sentences_as_they_are(release):
    (release / "clip_durations.tsv").write_text(
        "clip\tduration[ms]\ncommon_voice_en_1.mp3\t504\ncommon_voice_en_2.mp3\t756\n"
    )
    clips = release / "clips"
    assert common_voice.scan(release, "train") == [
        Utterance(
            "common_voice_en_1",
            str(clips / "common_voice_en_1.mp3"),
            0.504,
            '"Don’t," she said.',
            "ab12",
        ),
        Utterance("common_voice_en_2", str(clips / "common_voice_en_2.mp3"), 0.756, "Up.", "cd34"),
    ]


def test_durations_are_read_from_the_files_of_older_releases(release):
    found = [utterance.duration for utterance in common_voice.scan(release, "train")]
    assert found == pytest.approx([0.5, 0.75], abs=0.08)


def test_the_command_writes_a_manifest_of_each_part(release, tmp_path):
    make_common_voice(tmp_path / "cv-corpus-99", ["train", "test"], tmp_path / "out")
    assert [u.speaker for u in read_manifest(tmp_path / "out" / "train.jsonl")] == ["ab12", "cd34"]
    make_common_voice(release, ["test"])
    assert len(read_manifest(release / "test.jsonl")) == 1


def test_what_is_wrong_is_said(release, tmp_path):
    with pytest.raises(AsrError, match=r"dev\.tsv: no such part; .* has test, train"):
        common_voice.scan(release, "dev")
    with pytest.raises(AsrError, match="not a release of Common Voice"):
        common_voice.scan(release / "clips", "train")
    (release.parent / "de" / "clips").mkdir(parents=True)
    with pytest.raises(AsrError, match="several languages: de, en; name the folder of one"):
        common_voice.scan(release.parent, "train")
    (release / "train.tsv").write_text(HEADER + "x\tgone.mp3\ts\tGone.\t1\nshort\tline\n")
    with pytest.raises(AsrError) as caught:
        common_voice.scan(release, "train")
    assert [line.split("train.tsv")[-1] for line in str(caught.value).splitlines()] == [
        ": bad lines: 2",
        ":3: 2 columns; its header has 5",
        f":2: no gone.mp3 in {release / 'clips'}",
    ]
    (release / "train.tsv").write_text("path\ttext\na\tb\n")
    with pytest.raises(AsrError, match=r"train\.tsv:1: .* no column client_id, sentence"):
        common_voice.scan(release, "train")
    (release / "clip_durations.tsv").write_text("clip\tduration[ms]\na\tlong\n")
    with pytest.raises(AsrError, match=r"clip_durations\.tsv:2: not milliseconds: 'long'"):
        common_voice.scan(release, "test")
