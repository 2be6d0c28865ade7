"""Manifests come back as they were written, and every bad line is named."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.corpus.manifest import Utterance, read_manifest, write_manifest
from asr.errors import AsrError


def tone(path: Path, seconds: float, rate: int = 16000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = 0.1 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate)
    soundfile.write(path, samples, rate)
    return path


def lines(path: Path, *rows: object) -> Path:
    text = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8")
    return path


def test_every_field_survives_a_round_trip(tmp_path):
    utterances = [
        Utterance("a/1", str(tmp_path / "audio" / "a 1.wav"), 1.25, "don't — «naïve»\u2028", "a"),
        Utterance("2", "/elsewhere/2.flac", 0.0, "", ""),
    ]
    write_manifest(tmp_path / "m.jsonl", utterances)
    assert read_manifest(tmp_path / "m.jsonl") == utterances


def test_a_path_that_is_not_utf8_survives_a_round_trip_and_gives_an_id_that_is(tmp_path):
    path = str(tmp_path / os.fsdecode(b"caf\xe9\n.wav"))
    write_manifest(tmp_path / "m.jsonl", [Utterance("1", path, 1.0, "A", "")])
    assert read_manifest(tmp_path / "m.jsonl")[0].audio_filepath == path
    made = lines(tmp_path / "n.jsonl", {"audio_filepath": path, "duration": 1, "text": ""})
    assert read_manifest(made)[0].id == "caf\\udce9\\n"


def test_paths_below_the_manifest_are_relative_so_that_the_folder_can_move(tmp_path):
    inside, outside = tmp_path / "corpus" / "a" / "1.wav", tmp_path / "2.wav"
    manifest = tmp_path / "corpus" / "m.jsonl"
    write_manifest(
        manifest,
        [Utterance("1", str(inside), 1, "A", ""), Utterance("2", str(outside), 1, "B", "")],
    )
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    assert [row["audio_filepath"] for row in rows] == ["a/1.wav", str(outside)]
    moved = (tmp_path / "corpus").rename(tmp_path / "moved")
    assert read_manifest(moved / "m.jsonl")[0].audio_filepath == str(moved / "a" / "1.wav")


def test_relative_names_work_from_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    utterances = [Utterance("1", "audio/1.wav", 1.0, "A", "")]
    write_manifest("m.jsonl", utterances)
    assert json.loads(Path("m.jsonl").read_text())["audio_filepath"] == "audio/1.wav"
    assert read_manifest("m.jsonl") == utterances


def test_nemo_manifest_is_read_with_its_other_keys(tmp_path):
    tone(tmp_path / "x" / "take1.wav", 0.5)
    path = lines(
        tmp_path / "nemo.json",
        {"audio_filepath": "x/take1.wav", "text": "yes", "offset": 0.0, "lang": "en"},
        "",
        {"audio_filepath": "/y.wav", "duration": 2, "text": "no", "speaker": 7, "id": None},
    )
    assert read_manifest(path) == [
        Utterance("take1", str(tmp_path / "x" / "take1.wav"), 0.5, "yes", ""),
        Utterance("y", "/y.wav", 2.0, "no", "7"),
    ]


BAD = {
    "not json": "not JSON: Expecting value (column 1)",
    "[1]": "not a JSON object",
    '{"text": "A"}': '"audio_filepath" must be the path',
    '{"audio_filepath": "a.wav", "duration": 1}': '"text" must be what is said',
    '{"audio_filepath": "a.wav", "duration": "1", "text": ""}': "must be a number of seconds",
    '{"audio_filepath": "a.wav", "duration": -1, "text": ""}': '"duration" is -1',
    '{"audio_filepath": "a.wav", "duration": NaN, "text": ""}': '"duration" is nan',
    '{"audio_filepath": "a.wav", "duration": 1, "text": "", "id": [1]}': '"id" must be a string',
    '{"audio_filepath": "a.wav", "duration": 1, "text": "", "offset": -1}': '"offset" is -1',
    '{"audio_filepath": "a.wav", "duration": 1, "text": "", "channel": 0}': '"channel" is 0',
    '{"audio_filepath": "a.wav", "duration": 1, "text": "", "id": "a\\nb"}': "must be one line",
    '{"audio_filepath": "a.wav", "duration": 1, "text": "", "id": "\\ud800"}': '"id" has half a',
    '{"audio_filepath": "a.wav", "duration": 1, "text": "", "speaker": "\\ud800"}': '"speaker" has',
    '{"audio_filepath": "\\ud800.wav", "duration": 1, "text": ""}': '"audio_filepath" has half a',
    '{"audio_filepath": "gone.wav", "text": ""}': "gone.wav: no such file",
}


def test_every_bad_line_is_named_with_file_and_line(tmp_path):
    good = {"audio_filepath": "a.wav", "duration": 1, "text": ""}
    path = lines(tmp_path / "m.jsonl", good, *BAD)
    with pytest.raises(AsrError) as caught:
        read_manifest(path)
    head, *listed = str(caught.value).splitlines()
    assert head == f"{path}: bad lines: {len(BAD)}"
    assert len(listed) == len(BAD)
    for number, (line, fragment) in enumerate(zip(listed, BAD.values(), strict=True), start=2):
        assert line.startswith(f"  {path}:{number}: ")
        assert fragment in line


def test_twenty_bad_lines_are_listed_and_the_others_counted(tmp_path):
    with pytest.raises(AsrError) as caught:
        read_manifest(lines(tmp_path / "m.jsonl", *["?"] * 50))
    message = str(caught.value).splitlines()
    assert len(message) == 22
    assert message[-1] == "  and 30 more"


def test_line_that_is_not_utf8_is_named(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_bytes(b'{"audio_filepath": "a.wav", "duration": 1, "text": "caf\xe9"}\n')
    with pytest.raises(AsrError, match=r"m\.jsonl:1: not UTF-8 \(byte 56 of the line\)"):
        read_manifest(path)


@pytest.mark.parametrize(
    ("line", "fragment"),
    [
        (b'{"audio_filepath": "a.wav", "text": "A", "duration": 1e400}', "must be seconds"),
        (b'{"audio_filepath": "a.wav", "text": "A", "duration": 1' + b"0" * 400 + b"}", "seconds"),
        (b'{"audio_filepath": "a.wav", "text": "A", "duration": NaN}', "must be seconds"),
        (b'{"audio_filepath": "a.wav", "text": "A", "duration": ' + b"9" * 5000 + b"}", "not JSON"),
        (b'{"audio_filepath": "a.wav", "text": "A\\udc00", "duration": 1}', "half a character"),
        (b"[" * 100_000, "not JSON"),
        (b'{"audio_filepath": "a.wav", "text": "\xc9", "duration": 1}', "not UTF-8"),
        ('{"audio_filepath": "a.wav"}'.encode("utf-16"), "the file is in UTF-16"),
        (b'{"audio\0_filepath": "a.wav"}', "zero bytes"),
    ],
)
def test_a_line_that_cannot_be_read_is_a_message_with_its_number(line, fragment, tmp_path):
    good = b'{"audio_filepath": "b.wav", "text": "B", "duration": 1}\n'
    (tmp_path / "m.jsonl").write_bytes(good + line + b"\n")
    with pytest.raises(AsrError, match=rf"m\.jsonl:2: .*{fragment}"):
        read_manifest(tmp_path / "m.jsonl")


def test_duplicate_ids_are_refused_when_read_and_when_written(tmp_path):
    path = lines(
        tmp_path / "m.jsonl",
        {"audio_filepath": "a/1.wav", "duration": 1, "text": "A"},
        {"audio_filepath": "b/1.wav", "duration": 1, "text": "B"},
    )
    with pytest.raises(AsrError, match=r"m\.jsonl:2: id '1' is already used in line 1"):
        read_manifest(path)
    twice = [Utterance("1", "a.wav", 1, "", ""), Utterance("1", "b.wav", 1, "", "")]
    with pytest.raises(AsrError, match=r"two utterances have the id '1'.*b\.wav"):
        write_manifest(tmp_path / "out.jsonl", twice)
    assert not (tmp_path / "out.jsonl").exists()


def test_missing_manifest_names_the_nearest_one(tmp_path):
    lines(tmp_path / "train.jsonl", {"audio_filepath": "a.wav", "duration": 1, "text": ""})
    with pytest.raises(AsrError, match=r"no such manifest; did you mean .*/train\.jsonl\?"):
        read_manifest(tmp_path / "trian.jsonl")
    with pytest.raises(AsrError, match="is a folder, not a manifest"):
        read_manifest(tmp_path)


def test_empty_manifest_is_refused(tmp_path):
    with pytest.raises(AsrError, match="has no utterance"):
        read_manifest(lines(tmp_path / "m.jsonl", "", ""))


def test_asr_corpus_needs_no_torch():
    code = (
        "import sys; from asr.corpus import check, commands, folder, librispeech, sources; "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
