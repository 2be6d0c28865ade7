"""What lhotse writes becomes utterances that read the same samples."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr import audio
from asr.corpus.commands import import_cuts
from asr.corpus.cuts import read_cuts
from asr.corpus.manifest import read_manifest
from asr.errors import AsrError

lhotse = pytest.importorskip("lhotse")


@pytest.fixture
def made(tmp_path: Path) -> tuple:
    """A long recording with two segments, a whole one, and a telephone call of two channels."""
    draw = np.random.default_rng(0)
    for name, shape in (("long", 16000 * 10), ("whole", 16000), ("call", (16000, 2))):
        soundfile.write(tmp_path / f"{name}.flac", draw.normal(0, 0.1, shape), 16000)
    recordings = [
        lhotse.Recording.from_file(tmp_path / f"{name}.flac") for name in ("long", "whole", "call")
    ]
    rows = [
        ("one", "long", 1.0, 2.0, 0, "First."),
        ("two", "long", 6.5, 3.25, 0, "Second."),
        ("all", "whole", 0.0, 1.0, 0, None),
        ("caller", "call", 0.25, 0.5, 1, "Hello."),
    ]
    supervisions = [
        lhotse.SupervisionSegment(i, r, s, d, channel=c, text=t, speaker=f"speaker {i}")
        for i, r, s, d, c, t in rows
    ]
    return (
        lhotse.RecordingSet.from_recordings(recordings),
        lhotse.SupervisionSet.from_segments(supervisions),
    )


def test_segments_keep_their_place_channel_and_text(made, tmp_path):
    recordings, supervisions = made
    recordings.to_file(tmp_path / "recordings.jsonl.gz")
    supervisions.to_file(tmp_path / "supervisions.jsonl.gz")
    files = [tmp_path / "supervisions.jsonl.gz", tmp_path / "recordings.jsonl.gz"]
    import_cuts(files, tmp_path / "m.jsonl", Path())
    found = {u.id: u for u in read_manifest(tmp_path / "m.jsonl")}
    assert {i: (u.offset, u.duration, u.channel, u.text, u.speaker) for i, u in found.items()} == {
        "one": (1.0, 2.0, None, "First.", "speaker one"),
        "two": (6.5, 3.25, None, "Second.", "speaker two"),
        "all": (None, 1.0, None, "", "speaker all"),
        "caller": (0.25, 0.5, 2, "Hello.", "speaker caller"),
    }
    whole = audio.load(tmp_path / "long.flac").samples
    np.testing.assert_array_equal(audio.load(found["two"].source).samples, whole[104000:156000])
    second = audio.load(tmp_path / "call.flac", channel=2).samples
    np.testing.assert_array_equal(audio.load(found["caller"].source).samples, second[4000:12000])


def test_cuts_have_offsets_of_their_own_and_a_root(made, tmp_path):
    cuts = lhotse.CutSet.from_manifests(*made).trim_to_supervisions().to_eager()
    text = "".join(json.dumps(cut.to_dict()) + "\n" for cut in cuts)
    (tmp_path / "cuts.jsonl").write_text(text.replace(f"{tmp_path}/", ""))
    found = {u.id: u for u in read_cuts([tmp_path / "cuts.jsonl"], "elsewhere")}
    assert (found["one"].offset, found["one"].duration) == (1.0, 2.0)
    assert found["one"].audio_filepath == "elsewhere/long.flac"
    assert found["caller"].channel == 2


def test_what_a_manifest_cannot_express_is_refused(made, tmp_path):
    recordings, supervisions = made
    cuts = lhotse.CutSet.from_manifests(recordings, supervisions).to_eager()
    path = tmp_path / "cuts.jsonl"
    for changed, why in (
        (cuts.perturb_speed(1.1), "is changed in speed"),
        (cuts.pad(20.0), "is mixed of several recordings, or padded"),
    ):
        changed.to_file(path)
        with pytest.raises(AsrError, match=f"cannot express: [123]\n  .*: {why}"):
            read_cuts([path])
    recordings.to_file(tmp_path / "recordings.jsonl")
    with pytest.raises(AsrError, match="RecordingSet; give one file of cuts, or one of"):
        read_cuts([tmp_path / "recordings.jsonl"])
    path.write_text("{}\n")
    with pytest.raises(AsrError, match="lhotse cannot read it"):
        read_cuts([path])
    with pytest.raises(AsrError, match="no such file of lhotse"):
        read_cuts([tmp_path / "gone.jsonl"])
