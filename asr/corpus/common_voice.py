"""Mozilla Common Voice, as it is unpacked: one folder a language.

<release>/<language>/clips/*.mp3
<release>/<language>/train.tsv, dev.tsv, test.tsv, validated.tsv, ...
<release>/<language>/clip_durations.tsv        in newer releases
"""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from asr.corpus.manifest import Utterance, not_found, with_durations, with_list
from asr.errors import AsrError
from asr.text.read import BadLine, decode_line

PARTS = ("train", "dev", "test")
"""The parts that do not overlap; `validated` holds all three and more."""
_NEEDED = ("client_id", "path", "sentence")


def scan(folder: str | Path, part: str) -> list[Utterance]:
    """The utterances of `part.tsv`, in its order; the speaker is the client_id.

    Durations are those of `clip_durations.tsv` if it is there, else those of the files. Raises
    AsrError for a folder that is not Common Voice's, a part that it does not have, bad lines and
    recordings that are not there.
    """
    language = find_language(folder)
    table = language / f"{part}.tsv"
    if not table.is_file():
        there = ", ".join(sorted(path.stem for path in language.glob("*.tsv")))
        raise AsrError(f"{table}: no such part; {language} has {there}")
    clips = set(os.listdir(language / "clips"))
    durations = _durations(language / "clip_durations.tsv")
    utterances: list[Utterance] = []
    problems: list[str] = []
    for number, row in _rows(table, _NEEDED, problems):
        name = row["path"] if "." in row["path"] else row["path"] + ".mp3"
        if name not in clips:
            problems.append(f"{table}:{number}: no {name} in {language / 'clips'}")
            continue
        utterances.append(
            Utterance(
                id=name.rpartition(".")[0],
                audio_filepath=str(language / "clips" / name),
                duration=durations.get(name, 0.0),
                text=row["sentence"],
                speaker=row["client_id"],
            )
        )
    if problems:
        raise AsrError(with_list(f"{table}: bad lines: {len(problems)}", problems))
    return _with_missing_durations(utterances)


def find_language(folder: str | Path) -> Path:
    """The folder with `clips` in `folder`, or the only one one or two levels below it."""
    folder = Path(folder)
    if not folder.is_dir():
        raise not_found(folder, "folder")
    for places in ([folder], folder.glob("*"), folder.glob("*/*")):
        found = sorted(place for place in places if (place / "clips").is_dir())
        if len(found) > 1:
            names = ", ".join(str(place.relative_to(folder)) for place in found)
            raise AsrError(f"{folder}: has several languages: {names}; name the folder of one")
        if found and any(found[0].glob("*.tsv")):
            return found[0]
    raise AsrError(
        f"{folder}: no folder clips beside train.tsv, so it is not a release of Common Voice; "
        "unpack the archive of a language and name its folder"
    )


def _with_missing_durations(utterances: Sequence[Utterance]) -> list[Utterance]:
    missing = [utterance for utterance in utterances if not utterance.duration]
    read = {utterance.id: utterance.duration for utterance in with_durations(missing)}
    return [replace(u, duration=read.get(u.id, u.duration)) for u in utterances]


def _durations(path: Path) -> dict[str, float]:
    """Seconds by file name; empty if the release has no list of them."""
    if not path.is_file():
        return {}
    problems: list[str] = []
    found = {}
    for number, row in _rows(path, ("clip", "duration[ms]"), problems):
        try:
            found[row["clip"]] = int(row["duration[ms]"]) / 1000
        except ValueError:
            problems.append(f"{path}:{number}: not milliseconds: {row['duration[ms]']!r:.40}")
    if problems:
        raise AsrError(with_list(f"{path}: bad lines: {len(problems)}", problems))
    return found


def _rows(
    path: Path, needed: Sequence[str], problems: list[str]
) -> list[tuple[int, dict[str, str]]]:
    """Line number and cells by column name; quotation marks in sentences are part of them."""
    names: list[str] = []
    found = []
    for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
        try:
            cells = decode_line(line).rstrip("\r").split("\t")
        except BadLine as error:
            problems.append(f"{path}:{number}: {error}")
            continue
        if cells == [""]:
            continue
        if not names:
            names = cells
            lacking = [name for name in needed if name not in names]
            if lacking:
                raise AsrError(f"{path}:{number}: its header has no column {', '.join(lacking)}")
        elif len(cells) != len(names):
            problems.append(f"{path}:{number}: {len(cells)} columns; its header has {len(names)}")
        else:
            found.append((number, dict(zip(names, cells, strict=True))))
    return found
