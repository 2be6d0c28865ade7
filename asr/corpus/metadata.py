"""`metadata.csv`: the table of LJSpeech and of many folders of recordings.

LJSpeech's has no header, `|` between the columns and no quoting: `ID|text|text with numbers as
words`. Others have a header that names a column of files and one of texts, as those of Hugging
Face's AudioFolder do (`file_name,transcription`).
"""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from asr.corpus.manifest import with_list
from asr.errors import AsrError
from asr.text.read import BadLine, decode_line

_FILES = ("file_name", "filename", "file", "path", "audio_filepath", "audio", "wav", "id")
_TEXTS = ("normalized_text", "text", "transcription", "transcript", "sentence")
"""Names of columns, the preferred one first."""
_SPEAKERS = ("speaker", "speaker_id", "client_id")
Row = tuple[int, str, str, str]
"""Line number, file, text, speaker."""


def read_metadata(
    table: Path, folder: Path, recordings: Sequence[Path]
) -> dict[Path, tuple[str, str]]:
    """Text and speaker of each recording that the table names, sorted by path.

    A name is that of a file below `folder`, with or without its suffix; its folder may be left out
    where that is clear. The text is the last column of LJSpeech's, or a column that is called text,
    transcription, transcript or sentence. Raises AsrError for bad lines and unknown recordings.
    """
    problems: list[str] = []
    names = _index(folder, recordings)
    rows: dict[Path, tuple[str, str]] = {}
    for number, name, text, speaker in _rows(table, problems):
        path = names.get(name.removeprefix("./"), "")
        if not isinstance(path, Path):
            why = "several recordings are called" if path is None else "no recording"
            problems.append(f"{table}:{number}: {why} {name!r} in {folder}")
        elif path in rows:
            problems.append(f"{table}:{number}: {name} has a text already")
        else:
            rows[path] = text, speaker
    if problems:
        raise AsrError(with_list(f"{table}: bad lines: {len(problems)}", problems))
    if not rows:
        raise AsrError(f"{table}: no line with a recording and a text")
    return dict(sorted(rows.items()))


def _index(folder: Path, recordings: Sequence[Path]) -> dict[str, Path | None]:
    """Recordings by all names that a table may have for them; None for a name of several."""
    found: dict[str, Path | None] = {}
    exact = {}
    for path in recordings:
        below = path.relative_to(folder)
        exact[below.as_posix()] = path
        for name in {below.with_suffix("").as_posix(), path.name, path.stem}:
            found[name] = path if found.get(name, path) == path else None
    return {**found, **exact}


def _rows(table: Path, problems: list[str]) -> list[Row]:
    lines = []
    for number, line in enumerate(table.read_bytes().split(b"\n"), start=1):
        try:
            lines.append(decode_line(line).rstrip("\r"))
        except BadLine as error:
            problems.append(f"{table}:{number}: {error}")
            lines.append("")
    first = next((line for line in lines if line.strip()), "")
    delimiter = "|" if "|" in first else max(",;\t", key=first.count)
    if delimiter == "|" and not _columns(first.split("|")):
        return _without_header(table, lines, problems)
    reader = csv.reader(
        io.StringIO("\n".join(lines)),
        delimiter=delimiter,
        quoting=csv.QUOTE_NONE if delimiter == "|" else csv.QUOTE_MINIMAL,
    )
    columns: dict[str, int] = {}
    width, rows = 0, []
    try:
        for cells in reader:
            number = reader.line_num
            if not any(cell.strip() for cell in cells):
                continue
            if not columns:
                columns, width = _columns(cells), len(cells)
                if not columns:
                    raise AsrError(
                        f"{table}:{number}: its header must name a column of files "
                        f"({', '.join(_FILES)}) and one of texts ({', '.join(_TEXTS)})"
                    )
            elif len(cells) != width:
                problems.append(f"{table}:{number}: {len(cells)} columns; its header has {width}")
            else:
                speaker = cells[columns["speaker"]] if "speaker" in columns else ""
                file, text = cells[columns["file"]].strip(), cells[columns["text"]].strip()
                rows.append((number, file, text, speaker.strip()))
    except csv.Error as error:
        raise AsrError(f"{table}:{reader.line_num}: {error}") from None
    return rows


def _without_header(table: Path, lines: Sequence[str], problems: list[str]) -> list[Row]:
    """LJSpeech's rows: the text with numbers as words if there is one."""
    rows = []
    for number, line in enumerate(lines, start=1):
        cells = [cell.strip() for cell in line.split("|")]
        if len(cells) in (2, 3):
            rows.append((number, cells[0], cells[-1] or cells[1], ""))
        elif line.strip():
            problems.append(f"{table}:{number}: {len(cells)} columns; expected ID|text or 3")
    return rows


def _columns(header: Sequence[str]) -> dict[str, int]:
    """Where the columns are; empty if this is not a header with files and texts."""
    names = [cell.strip().lower() for cell in header]
    found = {}
    for key, known in (("file", _FILES), ("text", _TEXTS), ("speaker", _SPEAKERS)):
        for name in known:
            if name in names:
                found[key] = names.index(name)
                break
    return found if {"file", "text"} <= set(found) else {}
