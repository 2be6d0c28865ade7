"""A folder of your own recordings, with their texts beside them.

Four ways to give texts: a TSV of paths and texts, a text file of the same name beside each
recording, a `metadata.csv` such as LJSpeech's, a NeMo manifest.
"""

import json
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

from asr.audio import RECORDING_SUFFIXES, is_recording, walk
from asr.corpus.manifest import (
    Utterance,
    not_found,
    read_manifest,
    spelled,
    with_durations,
    with_list,
)
from asr.corpus.metadata import read_metadata
from asr.errors import AsrError
from asr.text.read import BadLine, decode_line

Texts = Literal["auto", "tsv", "txt", "csv", "nemo"]


def scan(
    folder: str | Path,
    texts: Texts = "auto",
    tsv: str | Path | None = None,
    ignore: str | Path | None = None,
) -> list[Utterance]:
    """Every recording in `folder` and below with its text, sorted by path (NeMo: as listed).

    texts: "tsv" reads `tsv`, or the one `*.tsv` in the folder: a header with columns `path` and
    `text`, or two columns without a header; paths are relative to the TSV or to the folder.
    "txt" reads a `.txt` beside each recording. "csv" reads `tsv`, or `metadata.csv` in the folder
    (`asr.corpus.metadata`). "nemo" reads the one manifest (`*.jsonl`,
    `*.json`) in the folder. "auto" takes whichever of them is there.
    The id is the path below the folder without its suffix, the speaker the name of the folder
    that the recording lies in, or empty in the top folder. A NeMo manifest and a `metadata.csv`
    have their own speakers, or none: the folders may be parts of a corpus.

    A `tsv` that is named chooses its recordings; otherwise every recording must have a text.
    `ignore` is not read as a source of texts: it is the manifest that this scan is written to.
    Raises AsrError for recordings without a text, bad lines (file and line), several sources of
    texts, a folder that does not exist or has no recordings.
    """
    folder = Path(os.path.normpath(folder))
    if not folder.is_dir():
        raise not_found(folder, "folder")
    if tsv is not None and texts not in ("auto", "tsv", "csv"):
        raise AsrError(f"a table is given ({tsv}) but texts={texts}; leave one of them out")
    recordings = sorted(
        place / name
        for place, names in walk(folder)
        for name in names
        if is_recording(place / name)
    )
    if not recordings:
        raise AsrError(
            f"{folder}: no recordings in it or below (looked for {' '.join(RECORDING_SUFFIXES)})"
        )
    kind, source = _choose(folder, texts, tsv, recordings, ignore)
    if kind == "nemo":
        utterances = read_manifest(source)
        with_text = {Path(utterance.audio_filepath).resolve() for utterance in utterances}
    elif kind == "csv":
        utterances = with_durations(_of_table(source, folder, recordings))
        with_text = {Path(utterance.audio_filepath).resolve() for utterance in utterances}
    else:
        rows = _from_tsv(source, folder) if kind == "tsv" else _from_texts(recordings)
        with_text = {path.resolve() for path in rows}
        utterances = with_durations(_utterances(folder, rows))
    without = [path for path in recordings if path.resolve() not in with_text]
    if without and tsv is None:
        raise AsrError(
            with_list(
                f"{folder}: recordings without a text in {source}: {len(without)} of "
                f"{len(recordings)}; add the texts, or name a table of the recordings to use",
                [str(path) for path in without],
            )
        )
    return utterances


def _choose(
    folder: Path,
    texts: Texts,
    tsv: str | Path | None,
    recordings: list[Path],
    ignore: str | Path | None,
) -> tuple[str, Path]:
    """Which kind of texts to read, and from where; "txt" has the folder itself."""
    if tsv is not None:
        if not Path(tsv).is_file():
            raise not_found(tsv, "table of texts")
        is_csv = texts == "csv" or (texts == "auto" and Path(tsv).suffix.lower() == ".csv")
        return "csv" if is_csv else "tsv", Path(tsv)
    ignored = Path(ignore).resolve() if ignore else None
    found = {
        "tsv": sorted(folder.glob("*.tsv")),
        "txt": [folder] if any(path.with_suffix(".txt").is_file() for path in recordings) else [],
        "csv": sorted(folder.glob("metadata.csv")),
        "nemo": [
            path
            for path in sorted(folder.glob("*.json*"))
            if path.resolve() != ignored and _is_nemo(path)
        ],
    }
    kinds = list(found) if texts == "auto" else [texts]
    choices = [(kind, path) for kind in kinds for path in found[kind]]
    if len(choices) == 1:
        return choices[0]
    if choices:
        which = ", ".join("*.txt beside recordings" if p == folder else p.name for _, p in choices)
        raise AsrError(
            f"{folder}: texts could come from {which}; choose with texts=tsv, txt, csv or nemo, "
            "name the table, or give the manifest instead of the folder"
        )
    looked = {
        "tsv": "a *.tsv of paths and texts in the folder",
        "txt": "a .txt beside each recording",
        "csv": "a metadata.csv of names and texts",
        "nemo": "a NeMo manifest (*.jsonl, *.json) in the folder",
    }
    raise AsrError(f"{folder}: no texts; looked for {'; '.join(looked[kind] for kind in kinds)}")


def _is_nemo(path: Path) -> bool:
    if path.suffix not in (".json", ".jsonl"):
        return False
    with path.open("rb") as file:
        first = file.readline()
    try:
        row = json.loads(first)
    except (ValueError, RecursionError):
        return False
    return isinstance(row, dict) and "audio_filepath" in row


def _from_texts(recordings: list[Path]) -> dict[Path, str]:
    """Texts of the recordings that have a `.txt`; line ends become spaces."""
    rows = {}
    problems = []
    for path in recordings:
        text = path.with_suffix(".txt")
        if text.is_file():
            try:
                lines = text.read_bytes().split(b"\n")
                rows[path] = " ".join(" ".join(map(decode_line, lines)).split())
            except BadLine as error:
                problems.append(f"{text}: {error}")
    if problems:
        raise AsrError(with_list("text files that cannot be read:", problems))
    return rows


def _of_table(table: Path, folder: Path, recordings: list[Path]) -> list[Utterance]:
    """The utterances of a `metadata.csv`, whose speakers are those that it names."""
    rows = read_metadata(table, folder, recordings)
    utterances = _utterances(folder, {path: text for path, (text, _) in rows.items()})
    speakers = [speaker for _, speaker in rows.values()]
    return [replace(u, speaker=speaker) for u, speaker in zip(utterances, speakers, strict=True)]


def _from_tsv(tsv: Path, folder: Path) -> dict[Path, str]:
    rows: dict[Path, str] = {}
    lines: dict[Path, int] = {}
    problems: list[str] = []
    path_column, text_column, width = 0, 1, 2
    for number, cells in _cells(tsv, problems):
        names = [cell.strip().lower() for cell in cells]
        if not lines and not problems and "path" in names and "text" in names:
            path_column, text_column, width = names.index("path"), names.index("text"), len(names)
            continue
        if len(cells) != width:
            expected = "path TAB text" if width == 2 else f"{width} columns, as in its header"
            problems.append(f"{tsv}:{number}: {len(cells)} columns; expected {expected}")
            continue
        name = cells[path_column].strip()
        places = [Path(os.path.normpath(parent / name)) for parent in (tsv.parent, folder)]
        path = next((place for place in places if place.is_file()), None)
        if path is None:
            problems.append(f"{tsv}:{number}: no recording {name!r} in {folder}")
        elif path in rows:
            problems.append(f"{tsv}:{number}: {name} already has the text of line {lines[path]}")
        else:
            rows[path], lines[path] = cells[text_column].strip(), number
    if problems:
        heading = f"{tsv}: bad lines: {len(problems)} (a header has columns named path and text)"
        raise AsrError(with_list(heading, problems))
    if not rows:
        raise AsrError(f"{tsv}: no line with a path and a text")
    return dict(sorted(rows.items()))


def _cells(tsv: Path, problems: list[str]) -> Iterator[tuple[int, list[str]]]:
    for number, line in enumerate(tsv.read_bytes().split(b"\n"), start=1):
        try:
            text = decode_line(line).rstrip("\r")
        except BadLine as error:
            problems.append(f"{tsv}:{number}: {error}")
            continue
        if text.strip():
            yield number, text.split("\t")


def _utterances(folder: Path, rows: dict[Path, str]) -> list[Utterance]:
    utterances = [
        Utterance(
            id=spelled(_below(path, folder).with_suffix("").as_posix()),
            audio_filepath=str(path),
            duration=0.0,
            text=text,
            speaker=spelled(_below(path, folder).parent.name),
        )
        for path, text in rows.items()
    ]
    counts = Counter(utterance.id for utterance in utterances)
    twice = [u.audio_filepath for u in utterances if counts[u.id] > 1]
    if twice:
        raise AsrError(
            with_list("recordings that differ only in their suffix; keep one of each:", twice)
        )
    return utterances


def _below(path: Path, folder: Path) -> Path:
    """The path as seen from the folder; from the file's own folder if it lies elsewhere."""
    path, folder = Path(os.path.abspath(path)), Path(os.path.abspath(folder))
    return path.relative_to(folder) if path.is_relative_to(folder) else Path(path.name)
