"""Tables called metadata.csv: LJSpeech's, and those with a header."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.corpus import sources
from asr.corpus.commands import make_ljspeech
from asr.corpus.folder import scan
from asr.corpus.manifest import read_manifest
from asr.errors import AsrError

LJ = "LJ001-0001|Printing, in 1450, differs|Printing, in fourteen fifty, differs\nLJ001-0002|or|\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("wavs/LJ001-0001.wav", "wavs/LJ001-0002.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        soundfile.write(tmp_path / name, np.zeros(8000), 16000)
    return tmp_path


def test_ljspeech_is_read_as_it_is_unpacked(folder):
    (folder / "metadata.csv").write_text(LJ)
    make_ljspeech(folder)
    found = read_manifest(folder / "metadata.jsonl")
    assert [(u.id, u.text, u.speaker, u.duration) for u in found] == [
        ("wavs/LJ001-0001", "Printing, in fourteen fifty, differs", "", 0.5),
        ("wavs/LJ001-0002", "or", "", 0.5),
    ]
    make_ljspeech(folder)  # its own manifest is in the folder now
    assert sources.resolve(str(folder / "metadata.jsonl")) == found


def test_a_folder_with_a_table_needs_no_manifest(folder):
    (folder / "metadata.csv").write_text(LJ)
    assert [u.text for u in sources.resolve(str(folder))][1] == "or"


@pytest.mark.parametrize(
    "table",
    [
        'file_name,text,speaker\nwavs/LJ001-0001.wav,"a, ""b""",anna\nLJ001-0002,"c\nd",ben\n',
        'speaker;transcription;path\nanna;"a, ""b""";LJ001-0001\n'
        'ben;"c\nd";./wavs/LJ001-0002.wav\n',
        'audio\tsentence\tclient_id\r\nLJ001-0001\t"a, ""b"""\tanna\r\nLJ001-0002\t"c\nd"\tben\n',
    ],
)
def test_tables_with_a_header_name_their_columns(table, folder):
    (folder / "metadata.csv").write_text(table)
    found = [(u.text, u.speaker) for u in scan(folder)]
    assert found == [('a, "b"', "anna"), ("c\nd", "ben")]


def test_a_header_between_bars_is_not_a_row(folder):
    (folder / "texts.csv").write_text("id|text\nLJ001-0001|one\n")
    assert [u.text for u in scan(folder, tsv=folder / "texts.csv")] == ["one"]


def test_what_is_wrong_is_said_with_its_line(folder):
    table = folder / "metadata.csv"
    for text, fragment in {
        "LJ001-0003|gone\n": r"metadata\.csv:1: no recording 'LJ001-0003'",
        "LJ001-0001|a\nLJ001-0001|b\n": r":2: LJ001-0001 has a text already",
        "LJ001-0001|a|b|c\n": r":1: 4 columns; expected",
        "name,words\nLJ001-0001,a\n": r":1: its header must name a column of files",
        "file,text\nLJ001-0001,a,b\n": r":2: 3 columns; its header has 2",
        "": r"must name|no line",
        "LJ001-0001|a\n": r"recordings without a text in .*metadata\.csv: 1 of 2",
    }.items():
        table.write_text(text)
        with pytest.raises(AsrError, match=fragment):
            scan(folder)
    (folder / "other").mkdir()
    soundfile.write(folder / "other" / "LJ001-0001.wav", np.zeros(8000), 16000)
    table.write_text("LJ001-0001|a\n")
    with pytest.raises(AsrError, match="several recordings are called 'LJ001-0001'"):
        scan(folder)
