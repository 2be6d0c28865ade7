"""A folder of recordings has its texts in one of three forms."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.corpus import folder
from asr.corpus.manifest import Utterance, read_manifest, write_manifest
from asr.errors import AsrError


@pytest.fixture
def own(tmp_path) -> Path:
    """Three recordings: one at the top, two of a speaker."""
    for name, seconds in {"top.wav": 0.5, "anna/1.flac": 0.25, "anna/2.WAV": 0.75}.items():
        path = tmp_path / "own" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, np.zeros(round(seconds * 8000)), 8000)
    return tmp_path / "own"


def expected(own: Path) -> list[Utterance]:
    return [
        Utterance("anna/1", str(own / "anna/1.flac"), 0.25, "one", "anna"),
        Utterance("anna/2", str(own / "anna/2.WAV"), 0.75, "two words", "anna"),
        Utterance("top", str(own / "top.wav"), 0.5, "Top.", ""),
    ]


def write_texts(own: Path) -> None:
    (own / "top.txt").write_text("Top.\n")
    (own / "anna" / "1.txt").write_bytes(b"\xef\xbb\xbfone\r\n")
    (own / "anna" / "2.txt").write_text("two\nwords")
    (own / "README.txt").write_text("not a transcript")


@pytest.mark.skipif(sys.platform != "linux", reason="file names must be UTF-8 elsewhere")
def test_names_of_files_that_are_not_utf8_are_escaped_in_ids_and_kept_in_paths(tmp_path):
    place = tmp_path / os.fsdecode(b"ren\xe9")
    place.mkdir()
    soundfile.write(tmp_path / "x.wav", np.zeros(800), 8000)
    recording = (tmp_path / "x.wav").rename(place / os.fsdecode(b"caf\xe9.wav"))
    recording.with_suffix(".txt").write_text("A")
    expected = [Utterance("ren\\udce9/caf\\udce9", str(recording), 0.1, "A", "ren\\udce9")]
    assert folder.scan(tmp_path) == expected
    write_manifest(tmp_path / "m.jsonl", expected)
    assert read_manifest(tmp_path / "m.jsonl") == expected


TSV = "top.wav\tTop.\nanna/1.flac\tone\n\nanna/2.WAV\ttwo words\n"


def test_text_files_beside_recordings(own):
    write_texts(own)
    assert folder.scan(own) == folder.scan(own, "txt") == expected(own)


def test_tsv_of_two_columns(own):
    (own / "texts.tsv").write_text(TSV)
    assert folder.scan(own) == folder.scan(own, "tsv") == expected(own)


def test_tsv_with_a_header_may_have_other_columns(own):
    rows = [line.split("\t") for line in TSV.splitlines() if line]
    table = "age\tText\tPath\r\n" + "".join(f"30\t{text}\t{path}\r\n" for path, text in rows)
    (own / "texts.tsv").write_bytes(table.encode())
    assert folder.scan(own) == expected(own)


def test_a_named_tsv_elsewhere_chooses_its_recordings(own, tmp_path):
    write_texts(own)
    (tmp_path / "some.tsv").write_text("own/anna/2.WAV\ttwo words\ntop.wav\tTop.\n")
    assert folder.scan(own, tsv=tmp_path / "some.tsv") == expected(own)[1:]


def test_nemo_manifest_in_the_folder(own):
    rows = [
        {"audio_filepath": "anna/1.flac", "duration": 0.25, "text": "one", "speaker": "anna"},
        {"audio_filepath": "anna/2.WAV", "text": "two words", "speaker": "anna"},
        {"audio_filepath": "top.wav", "duration": 0.5, "text": "Top."},
    ]
    (own / "manifest.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (own / "settings.json").write_text('{\n"not": "a manifest"}\n')
    found = folder.scan(own)
    assert found == folder.scan(own, "nemo")
    assert [u.id for u in found] == ["1", "2", "top"]
    assert [(u.text, u.duration, u.speaker) for u in found] == [
        (u.text, u.duration, u.speaker) for u in expected(own)
    ]


def test_two_sources_of_texts_must_be_chosen_from(own):
    write_texts(own)
    (own / "texts.tsv").write_text(TSV)
    with pytest.raises(AsrError, match=r"could come from texts\.tsv, \*\.txt beside recordings; c"):
        folder.scan(own)
    assert folder.scan(own, "txt") == folder.scan(own, "tsv") == expected(own)


def test_the_manifest_that_is_being_made_is_not_a_source(own):
    write_texts(own)
    (own / "out.jsonl").write_text('{"audio_filepath": "top.wav", "text": "old"}\n')
    with pytest.raises(AsrError, match=r"beside recordings, out\.jsonl; choose"):
        folder.scan(own)
    assert folder.scan(own, ignore=own / "out.jsonl") == expected(own)


def test_without_texts_the_error_lists_what_was_searched_for(own):
    with pytest.raises(AsrError, match=r"a \*\.tsv of paths.*a \.txt beside.*a NeMo manifest"):
        folder.scan(own)
    with pytest.raises(AsrError, match=r"no texts; looked for a \.txt beside each recording$"):
        folder.scan(own, "txt")


def test_recordings_without_text_are_listed(own):
    (own / "texts.tsv").write_text("top.wav\tTop.\n")
    with pytest.raises(AsrError) as caught:
        folder.scan(own)
    head, *listed = str(caught.value).splitlines()
    assert f"{own}: recordings without a text in {own}/texts.tsv: 2 of 3" in head
    assert listed == [f"  {own}/anna/1.flac", f"  {own}/anna/2.WAV"]


def test_bad_lines_of_a_tsv_are_listed_together(own):
    (own / "texts.tsv").write_bytes(
        b"top.wav\tTop.\ngone.wav\tgone\nanna/1.flac\ntop.wav\tagain\nanna/2.WAV\tcaf\xe9\n"
    )
    with pytest.raises(AsrError) as caught:
        folder.scan(own)
    assert str(caught.value).splitlines()[1:] == [
        f"  {own}/texts.tsv:2: no recording 'gone.wav' in {own}",
        f"  {own}/texts.tsv:3: 1 columns; expected path TAB text",
        f"  {own}/texts.tsv:4: top.wav already has the text of line 1",
        f"  {own}/texts.tsv:5: not UTF-8 (byte 15 of the line); convert the file to UTF-8",
    ]


def test_recordings_that_differ_in_their_suffix_only_are_refused(own):
    soundfile.write(own / "top.flac", np.zeros(800), 8000)
    write_texts(own)
    with pytest.raises(AsrError, match="differ only in their suffix") as caught:
        folder.scan(own)
    assert str(caught.value).splitlines()[1:] == [f"  {own}/top.flac", f"  {own}/top.wav"]


def test_folder_without_audio_and_missing_folder(tmp_path):
    (tmp_path / "readme.txt").write_text("nothing here")
    with pytest.raises(AsrError, match="no recordings in it or below"):
        folder.scan(tmp_path)
    with pytest.raises(AsrError, match="no such folder"):
        folder.scan(tmp_path / "gone")


def test_a_tsv_and_another_kind_of_texts_contradict(own):
    with pytest.raises(AsrError, match="leave one of them out"):
        folder.scan(own, "txt", tsv=own / "texts.tsv")
    with pytest.raises(AsrError, match="no such table of texts"):
        folder.scan(own, tsv=own / "texts.tsv")
