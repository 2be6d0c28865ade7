"""Entries of `data.train`, `dev` and `test` -> utterances.

An entry is `spoken:train|dev|test` for the built-in corpus, a manifest (`*.jsonl`), a folder in
LibriSpeech's layout, or a folder of your own recordings.
"""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from asr.corpus import folder, librispeech
from asr.corpus.index import UtteranceIndex, index_manifests
from asr.corpus.manifest import Utterance, not_found, read_manifest, write_manifest
from asr.corpus.spoken.settings import PARTS, Part, Spoken
from asr.errors import AsrError

_SPOKEN = "spoken:"
_MANIFESTS = (".jsonl", ".json")
# Names that many manifests have: the folder's name is added to them in reports.
_COMMON = {"train", "dev", "test", "valid", "validation", "eval", "manifest"}


def resolve(entry: str, root: str | Path = "", spoken: Spoken | None = None) -> list[Utterance]:
    """The utterances of one entry; relative paths are looked up in `root`.

    A part of the built-in corpus (of the settings `spoken`) is made first if it is missing. Raises
    AsrError for an entry that does not exist, with the nearest names that do, and for whatever its
    reader refuses.
    """
    path = _path(entry, root, spoken)
    return _scan(path) if path.is_dir() else read_manifest(path)


def index(
    entries: Sequence[str], root: str | Path, spoken: Spoken | None, lists: Path
) -> UtteranceIndex:
    """The utterances of several entries, as `resolve` finds them, without holding them in memory.

    What is in a folder is written to a manifest first: `1.jsonl` of the folder `lists` for the
    first entry, and so on.
    """
    manifests = []
    for number, entry in enumerate(entries, 1):
        path = _path(entry, root, spoken)
        if path.is_dir():
            found, path = _scan(path), lists / f"{number}.jsonl"
            write_manifest(path, found)
        manifests.append(path)
    return index_manifests(manifests)


def _path(entry: str, root: str | Path, spoken: Spoken | None) -> Path:
    """The manifest or the folder that an entry means."""
    if entry.startswith(_SPOKEN):
        # Late: other corpora need neither the grammar nor the synthesiser.
        from asr.corpus.progress import fraction_bar
        from asr.corpus.spoken import build

        part = _spoken_part(entry)
        with fraction_bar(entry) as progress:
            return build.ensure(part, spoken or Spoken(), progress=progress)
    if not entry:
        raise AsrError("an entry of data.train, dev or test is empty")
    path = Path(root).expanduser() / Path(entry).expanduser()
    if path.suffix in _MANIFESTS:
        if not path.is_file():
            raise not_found(path, "manifest")
        return path
    if path.is_file():
        raise AsrError(f"{path}: neither a folder nor a manifest (*.jsonl)")
    if not path.is_dir():
        raise librispeech.missing_folder(path)
    return path


def _scan(path: Path) -> list[Utterance]:
    return librispeech.scan(path) if librispeech.has_layout(path) else folder.scan(path)


def describe(entry: str) -> str:
    """A short name of an entry for reports: `spoken test`, `test-clean`, `coffee test`."""
    if entry.startswith(_SPOKEN):
        return entry.replace(":", " ")
    path = Path(entry)
    if path.suffix not in _MANIFESTS:
        return path.name or entry
    if path.stem in _COMMON and path.parent.name:
        return f"{path.parent.name} {path.stem}"
    return path.stem


def _spoken_part(entry: str) -> Part:
    part = entry.removeprefix(_SPOKEN)
    if part not in PARTS:
        near = difflib.get_close_matches(part, PARTS, n=1)
        hint = f"; did you mean {_SPOKEN}{near[0]}?" if near else ""
        known = ", ".join(_SPOKEN + name for name in PARTS)
        raise AsrError(f"{entry}: no such part of the built-in corpus, there are {known}{hint}")
    return cast(Part, part)
