"""A text is never taken for that of another recording, and one odd name stops no other."""

import json
import os
import shutil
import sys
import threading
from io import BytesIO, TextIOWrapper
from pathlib import Path

import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from tone_network import RATE, save_tone_model, speak

from asr.files import CannotWrite
from asr.transcribe.batch import transcribe_to
from asr.transcribe.formats import quoted
from asr.transcribe.provenance import RECORD, Provenance
from asr.transcribe.recogniser import Recogniser, load

posix = pytest.mark.skipif(os.name == "nt", reason="names that Windows refuses")


@pytest.fixture(scope="module")
def recogniser(tmp_path_factory: pytest.TempPathFactory) -> Recogniser:
    return load(save_tone_model(tmp_path_factory.mktemp("model") / "tone.asr"))


def record(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    format = "flac" if path.suffix == ".flac" else "wav"
    soundfile.write(os.fsencode(path), speak(text), RATE, format=format)
    return path


def texts(folder: Path) -> dict[str, str]:
    return {p.name: p.read_text().strip() for p in folder.iterdir() if p.name != RECORD}


# --- one after the other into one folder ---


@pytest.mark.parametrize("second", ["audio.flac", "audio.WAV", "audio.wav.flac"])
def test_a_second_recording_of_one_name_but_its_suffix_is_transcribed_beside_the_first(
    recogniser: Recogniser, tmp_path: Path, second: str
) -> None:
    out = tmp_path / "out"
    record(tmp_path / "d1" / "audio.wav", "BAD")
    record(tmp_path / "d2" / second, "EGG")
    for _ in range(2):
        assert transcribe_to(recogniser, [tmp_path / "d1"], out) == 0
        assert transcribe_to(recogniser, [tmp_path / "d2"], out) == 0
        assert sorted(texts(out).values()) == ["BAD", "EGG"]
        assert texts(out)["audio.txt"] == "BAD"


@pytest.mark.parametrize("moved", [False, True])
def test_a_second_recording_of_one_name_in_the_folder_leaves_the_first_its_text(
    recogniser: Recogniser, tmp_path: Path, moved: bool
) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    record(folder / "audio.wav", "BAD")
    transcribe_to(recogniser, [folder], out)
    (out / "audio.txt").write_text("corrected by hand")
    record(folder / "audio.flac", "EGG")
    if moved:
        folder = folder.rename(tmp_path / "elsewhere")
    for _ in range(2):
        assert transcribe_to(recogniser, [folder], out) == 0
        assert texts(out) == {"audio.txt": "corrected by hand", "audio.flac.txt": "EGG"}
    record(folder / "audio", "DAD")  # can have no other name
    assert transcribe_to(recogniser, [folder], out) == 1
    assert texts(out)["audio.txt"] == "corrected by hand"


@pytest.mark.parametrize("kind", ["other length", "same length", "standard input"])
def test_a_second_recording_of_the_same_name_is_refused_and_the_others_are_done(
    recogniser: Recogniser,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    out = tmp_path / "out"
    first = record(tmp_path / "d1" / "audio.wav", "BAD")
    second = record(tmp_path / "d2" / "audio.wav", "CAFE" if kind == "other length" else "EGG")
    record(tmp_path / "d2" / "more.wav", "DAD")
    sources: list[list[str]] = [[str(first.parent)], [str(second.parent)]]
    if kind == "standard input":
        sources = [["-"], ["-", str(tmp_path / "d2" / "more.wav")]]
    for number, paths in enumerate(sources):
        content = (first, second)[number].read_bytes()
        monkeypatch.setattr(sys, "stdin", TextIOWrapper(BytesIO(content)))
        assert transcribe_to(recogniser, paths, out) == number
    err = capsys.readouterr().err
    assert "is the text of " in err
    assert "1 recording transcribed" in err.splitlines()[-1]
    assert "1 failed" in err.splitlines()[-1]
    name = "stdin.txt" if kind == "standard input" else "audio.txt"
    assert texts(out) == {name: "BAD", "more.txt": "DAD"}
    if kind != "standard input":
        assert transcribe_to(recogniser, [second], out, overwrite=True) == 0
        assert texts(out)["audio.txt"] in ("CAFE", "EGG")
        assert transcribe_to(recogniser, [second], out) == 0
        assert transcribe_to(recogniser, [first], out) == 1


def through_pipe(recogniser: Recogniser, path: Path, out: Path) -> int:
    """Transcribe what comes from a pipe, whose name is the same each time."""
    pipe = path.parent / "63"
    if not pipe.exists():
        os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(path.read_bytes()))
    writer.start()
    failed = transcribe_to(recogniser, [pipe], out)
    writer.join()
    return failed


@posix
def test_another_pipe_of_the_same_name_is_another_recording(
    recogniser: Recogniser, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = record(tmp_path / "a.wav", "BAD"), record(tmp_path / "b.wav", "EGG")
    out = tmp_path / "out"
    assert through_pipe(recogniser, first, out) == 0
    assert through_pipe(recogniser, first, out) == 0
    assert "1 skipped, done before (--overwrite" in capsys.readouterr().err
    assert through_pipe(recogniser, second, out) == 1
    assert f"{tmp_path}/63: {out}/63 is the text of " in capsys.readouterr().err
    assert texts(out) == {"63.txt": "BAD"}


@pytest.mark.parametrize("move", [os.rename, shutil.copy, os.link, os.symlink])
def test_a_recording_that_was_moved_or_copied_is_still_the_same(
    recogniser: Recogniser, tmp_path: Path, move
) -> None:
    out = tmp_path / "out"
    first = record(tmp_path / "d1" / "audio.wav", "BAD")
    transcribe_to(recogniser, [first], out)
    (out / "audio.txt").write_text("corrected by hand")
    (tmp_path / "d2").mkdir()
    move(first, tmp_path / "d2" / "audio.wav")
    assert transcribe_to(recogniser, [tmp_path / "d2" / "audio.wav"], out) == 0
    assert texts(out) == {"audio.txt": "corrected by hand"}


@pytest.mark.parametrize("record_of", [None, b"", b"{not json\n", b'[1]\n{"output": "audio"}\n'])
def test_texts_without_a_record_or_with_a_damaged_one_are_left_alone(
    recogniser: Recogniser, tmp_path: Path, record_of: bytes | None
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "audio.txt").write_text("from before")
    if record_of is not None:
        (out / RECORD).write_bytes(record_of)
    assert transcribe_to(recogniser, [record(tmp_path / "d" / "audio.wav", "BAD")], out) == 0
    assert texts(out) == {"audio.txt": "from before"}


@pytest.mark.parametrize("deleted", ["texts", "texts and record", "record"])
def test_what_was_deleted_owns_nothing(
    recogniser: Recogniser, tmp_path: Path, deleted: str
) -> None:
    out = tmp_path / "out"
    transcribe_to(recogniser, [record(tmp_path / "d1" / "audio.wav", "BAD")], out)
    if "texts" in deleted:
        (out / "audio.txt").unlink()
    if "record" in deleted:
        (out / RECORD).unlink()
    assert transcribe_to(recogniser, [record(tmp_path / "d2" / "audio.wav", "EGG")], out) == 0
    assert texts(out) == {"audio.txt": "BAD" if deleted == "record" else "EGG"}


def test_the_last_line_of_an_output_counts_and_a_torn_one_harms_no_other(tmp_path: Path) -> None:
    a, b = record(tmp_path / "a.wav", "BAD"), record(tmp_path / "b.wav", "EGG")
    known = Provenance(tmp_path)
    known.add("x", a)
    known.add("x", b)
    known.add("y", a)
    with (tmp_path / RECORD).open("ab") as file:
        file.write(b'{"output": "z", "sour')
    again = Provenance(tmp_path)
    again.add("z", b)
    last = Provenance(tmp_path)
    assert [last.owner(name) for name in "xyz"] == [str(b), str(a), str(b)]
    assert not last.may_be_of("x", a)
    assert last.may_be_of("x", b)
    assert len((tmp_path / RECORD).read_bytes().splitlines()) == 5


# --- odd names ---


@posix
@pytest.mark.parametrize("length", [230, 249, 251, 254])
@pytest.mark.parametrize("letter", ["a", "\u00e9", "\u4e2d"])
def test_a_name_that_is_nearly_too_long_stops_no_other(
    recogniser: Recogniser,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    letter: str,
    length: int,
) -> None:
    stem = letter * ((length - 4) // len(letter.encode()))
    record(tmp_path / "in" / "a.wav", "BAD")
    record(tmp_path / "in" / "z.wav", "DAD")
    record(tmp_path / "short.wav", "EGG").rename(tmp_path / "in" / f"{stem}.wav")
    formats = ["txt", "json"]
    too_long = len(f"{stem}.json".encode()) > 255
    assert transcribe_to(recogniser, [tmp_path / "in"], tmp_path / "out", formats) == too_long
    written = texts(tmp_path / "out")
    assert (written["a.txt"], written["z.txt"], written[f"{stem}.txt"]) == ("BAD", "DAD", "EGG")
    assert (f"{stem}.json" in written) != too_long
    if too_long:
        assert "File name too long" in capsys.readouterr().err


@posix
@pytest.mark.parametrize("trouble", ["a folder", "a link in a circle", "below a file"])
def test_one_output_that_cannot_be_written_stops_no_other(
    recogniser: Recogniser, tmp_path: Path, capsys: pytest.CaptureFixture[str], trouble: str
) -> None:
    out = tmp_path / "out"
    for name in ("a", "m/m", "z"):
        record(tmp_path / "in" / f"{name}.wav", "BAD")
    (out / "m").mkdir(parents=True)
    if trouble == "a folder":
        (out / "m" / "m.txt").mkdir()
    elif trouble == "a link in a circle":
        (out / "m" / "m.txt").symlink_to(out / "m" / "m.txt")
    else:
        (out / "m").rmdir()
        (out / "m").write_text("")
    assert transcribe_to(recogniser, [tmp_path / "in"], out) == 1
    assert "m.wav: " in capsys.readouterr().err
    assert [(out / f"{name}.txt").read_text() for name in "az"] == ["BAD\n"] * 2


def test_a_full_disk_stops_the_work_with_a_sentence(recogniser: Recogniser, tmp_path: Path) -> None:
    for name in "az":
        record(tmp_path / "in" / f"{name}.wav", "BAD")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.txt").symlink_to("/dev/full")
    with pytest.raises(CannotWrite, match=r"a\.txt: cannot be written: No space left"):
        transcribe_to(recogniser, [tmp_path / "in"], tmp_path / "out", overwrite=True)


NAMES = ["tab\there", "line\nfeed", "return\rback", "bell\x07", "next\x85line", "sep\u2028",
    '"quoted"', "back\\slash", "plain \u00e9", os.fsdecode(b"caf\xe9")]  # fmt: skip


@posix
@pytest.mark.parametrize("format", ["txt", "tsv"])
def test_any_name_is_one_field_of_a_line_that_can_be_read_back(
    recogniser: Recogniser, tmp_path: Path, capsys: pytest.CaptureFixture[str], format: str
) -> None:
    paths = [record(tmp_path / f"{name}.wav", "BAD") for name in NAMES]
    assert transcribe_to(recogniser, paths, formats=[format]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(paths)
    fields = [line.split("\t") for line in lines]
    assert {len(field) for field in fields} == {2 if format == "txt" else 5}
    assert [json.loads(f[0]) if f[0].startswith('"') else f[0] for f in fields] == [
        str(path) for path in paths
    ]


@posix
@pytest.mark.parametrize("name", ["tab\there", "line\nfeed", "sep\u2028"])
def test_a_message_is_one_line_whatever_the_name(
    recogniser: Recogniser, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (tmp_path / f"{name}.wav").write_text("no audio")
    assert transcribe_to(recogniser, [tmp_path / f"{name}.wav"]) == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=[]), min_size=1, max_size=30))
def test_a_quoted_path_is_one_field_and_comes_back(path: str) -> None:
    field = quoted(path)
    assert len(field.splitlines()) == 1
    assert "\t" not in field
    assert (json.loads(field) if field.startswith('"') else field) == path
