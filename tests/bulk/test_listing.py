"""The list of what is to be transcribed: every kind of input, names, mistakes."""

import json
import os
from pathlib import Path

import pytest

from asr.audio import Clip
from asr.bulk.listing import ListedRecording, read_list, write_list
from asr.errors import AsrError


def listed(folder: Path, *inputs: Path) -> list[ListedRecording]:
    count = write_list(folder / "list.out", inputs)
    found = list(read_list(folder / "list.out"))
    assert len(found) == count
    return found


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return folder


def test_a_folder_is_listed_sorted_and_named_by_its_tree(tmp_path: Path) -> None:
    folder = touch(tmp_path / "in", "b.wav", "a.flac", "a.wav", "sub/c.ogg", ".x.wav", "notes.txt")
    found = listed(tmp_path, folder)
    assert [r.id for r in found] == ["a.flac", "a.wav", "b", "sub/c"]
    assert [r.source for r in found] == [
        str(folder / name) for name in ("a.flac", "a.wav", "b.wav", "sub/c.ogg")
    ]


def test_every_nth_recording_of_all_shards_together_is_the_whole_list(tmp_path: Path) -> None:
    folder = touch(tmp_path / "in", *(f"{i}.wav" for i in range(11)))
    whole = listed(tmp_path, folder)
    parts = [list(read_list(tmp_path / "list.out", first, 4)) for first in range(4)]
    assert [len(part) for part in parts] == [3, 3, 3, 2]
    assert [parts[i % 4][i // 4] for i in range(11)] == whole


def test_a_manifest_needs_neither_texts_nor_durations_and_its_segments_are_clips(
    tmp_path: Path,
) -> None:
    touch(tmp_path, "in/a.wav", "in/b.wav")
    rows = [
        {"audio_filepath": "a.wav"},
        {"audio_filepath": "a.wav", "offset": 1.5, "duration": 2.0, "text": None},
        {"audio_filepath": "b.wav", "duration": 3, "text": "-", "id": "x/7", "speaker": 1},
        {"audio_filepath": "b.wav", "channel": 2, "duration": 3},
    ]
    manifest = tmp_path / "in" / "m.jsonl"
    manifest.write_text("\n".join(json.dumps(row) for row in rows))
    a, b = (str(tmp_path / "in" / name) for name in ("a.wav", "b.wav"))
    found = listed(tmp_path, manifest)
    assert [r.source for r in found] == [a, Clip(a, 1.5, 2.0), b, Clip(b, 0.0, None, 2)]
    assert [r.id for r in found] == ["a", "a-00001500", "x/7", "b"]


def test_an_offset_of_zero_without_a_duration_is_the_whole_recording(tmp_path: Path) -> None:
    touch(tmp_path, "a.wav")
    (tmp_path / "m.jsonl").write_text('{"audio_filepath": "a.wav", "offset": 0.0}\n')
    (found,) = listed(tmp_path, tmp_path / "m.jsonl")
    assert (found.offset, found.duration) == (None, None)


def test_a_list_of_paths_is_relative_to_itself_and_equal_names_get_their_suffix(
    tmp_path: Path,
) -> None:
    folder = touch(tmp_path / "in", "a.wav", "a.flac", "sub/b c.wav")
    touch(tmp_path, "else/d.wav")
    other = tmp_path / "else" / "d.wav"
    odd = os.fsencode(tmp_path) + b"/in/\xff.wav"
    os.close(os.open(odd, os.O_CREAT))
    lines = [b"a.wav", b"a.flac", b"sub/../sub/b c.wav\r", b"", os.fsencode(other), odd]
    (folder / "list.txt").write_bytes(b"\n".join(lines))
    found = listed(tmp_path, folder / "list.txt")
    outside = other.with_suffix("").relative_to("/").as_posix()
    assert [r.id for r in found] == ["a.wav", "a.flac", "sub/b c", outside, os.fsdecode(b"\xff")]
    assert found[3].audio_filepath == str(other)
    assert os.fsencode(found[4].audio_filepath) == odd


def test_files_and_folders_may_be_mixed_in_the_order_given(tmp_path: Path) -> None:
    folder = touch(tmp_path / "in", "sub/a.wav", "z.wav")
    found = listed(tmp_path, folder / "z.wav", folder / "sub")
    assert [r.id for r in found] == ["z", "a"]


@pytest.mark.parametrize(
    ("name", "content", "fragments"),
    [
        ("m.jsonl", '{"audio_filepath": "a.wav"}\n{no\n[]', ["bad lines: 2", ":2: not JSON", ":3"]),
        ("m.jsonl", '{"audio_filepath": "a.wav", "id": "../x"}', [":1", '"id"']),
        ("m.jsonl", '{"audio_filepath": "a.wav"}\n' * 2, ["2 recordings listed twice", "a.wav"]),
        ("l.txt", "a.wav\nsub/../a.wav\n", ["listed twice", "a.wav"]),
        ("l.txt", "b.wav\nc.wav\n", ["none of the first 2", "b.wav", "relative"]),
        ("l.txt", "\n", ["lists no recording"]),
        ("l.txt", ".\na.wav\n", [":1: is a folder"]),
    ],
)
def test_mistakes_in_a_file_are_named(
    tmp_path: Path, name: str, content: str, fragments: list[str]
) -> None:
    touch(tmp_path, "a.wav")
    (tmp_path / name).write_text(content)
    with pytest.raises(AsrError) as error:
        write_list(tmp_path / "list.out", [tmp_path / name])
    assert all(fragment in str(error.value) for fragment in fragments), error.value
    assert not (tmp_path / "list.out").exists()


def test_mistakes_in_what_is_given_are_named(tmp_path: Path) -> None:
    touch(tmp_path, "x/a.wav", "y/a.wav", "empty/notes.txt")
    cases = {
        "no such file": ["missing.wav"],
        "a folder without recordings": ["empty"],
        "2 recordings listed twice": ["x", "x/a.wav"],
        "2 recordings with one name": ["x", "y"],
        "standard input": ["-"],
    }
    for message, names in cases.items():
        with pytest.raises(AsrError, match=message):
            write_list(tmp_path / "o", [n if n == "-" else tmp_path / n for n in names])
