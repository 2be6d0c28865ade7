"""What stands under `data.train`, `dev` and `test` -> utterances.

An entry is `spoken:train|dev|test` for the built-in corpus, a manifest (`*.jsonl`), a folder in
LibriSpeech's layout, or a folder of one's own recordings.
"""

import difflib
from pathlib import Path
from typing import Literal, cast, get_args

from asr.corpus import folder, librispeech
from asr.corpus.manifest import Utterance, read_manifest
from asr.errors import AsrError
from asr.settings.data import DataSettings

SpokenPart = Literal["train", "dev", "test"]
_SPOKEN_PARTS: tuple[SpokenPart, ...] = get_args(SpokenPart)
_SPOKEN = "spoken:"
_MANIFESTS = (".jsonl", ".json")
# Names that many manifests have; a report needs the folder's name beside them.
_COMMON = {"train", "dev", "test", "valid", "validation", "eval", "manifest"}


def resolve(entry: str, data: DataSettings) -> list[Utterance]:
    """The utterances of one entry; relative paths are looked up in `data.root`.

    A part of the built-in corpus is made first if it is not there. Raises AsrError for an entry
    that is not there, with the nearest names that are, and for whatever its reader refuses.
    """
    if entry.startswith(_SPOKEN):
        # Late: the synthesiser is an extra that other corpora do without.
        from asr.corpus.spoken import build as spoken

        return read_manifest(spoken.ensure(_spoken_part(entry), data.spoken))
    if not entry:
        raise AsrError("an entry of data.train, dev or test is empty")
    path = Path(data.root).expanduser() / Path(entry).expanduser()
    if path.suffix in _MANIFESTS:
        return read_manifest(path)
    if path.is_file():
        raise AsrError(f"{path}: neither a folder nor a manifest by its name (*.jsonl)")
    if not path.is_dir():
        raise librispeech.missing_folder(path)
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


def _spoken_part(entry: str) -> SpokenPart:
    part = entry.removeprefix(_SPOKEN)
    if part not in _SPOKEN_PARTS:
        near = difflib.get_close_matches(part, _SPOKEN_PARTS, n=1)
        hint = f"; did you mean {_SPOKEN}{near[0]}?" if near else ""
        known = ", ".join(_SPOKEN + name for name in _SPOKEN_PARTS)
        raise AsrError(f"{entry}: no such part of the built-in corpus, there are {known}{hint}")
    return cast(SpokenPart, part)
