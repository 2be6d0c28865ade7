"""Millions of utterances without their texts: where each lies in its manifest, and how long it is.

A line is read when its utterance is wanted. 12 bytes an utterance are in memory, or in a file that
all processes of a machine map.
"""

import operator
from array import array
from collections.abc import Collection, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import IO, Any, overload

import numpy as np

from asr.corpus.manifest import Utterance, scan_manifest, utterance_of
from asr.errors import AsrError
from asr.files import atomic_path
from asr.text.read import BadLine, parse_row

_ROW = np.dtype([("offset", "<i8"), ("seconds", "<f4")])


class UtteranceIndex(Sequence[Utterance]):
    """The utterances of manifests, in their order; made by `index_manifests`.

    Iterating reads the manifests from their beginning to their end, and an index reads one line. It
    may be used by several threads and processes; after `save` it is pickled as the name of its
    file. Raises AsrError for an utterance whose line is no longer where it was.
    """

    def __init__(
        self, manifests: Sequence[str], ends: Sequence[int], rows: np.ndarray, path: str = ""
    ) -> None:
        self.manifests = tuple(manifests)
        self.ends = tuple(ends)
        """For each manifest how many utterances there are up to its end."""
        self._rows = rows
        self._path = path

    @property
    def durations(self) -> np.ndarray:
        """Seconds of each utterance, float32."""
        found: np.ndarray = self._rows["seconds"]
        return found

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Utterance]:
        for manifest, (start, end) in zip(self.manifests, pairwise((0, *self.ends)), strict=True):
            with _opened(manifest) as file:
                for index in range(start, end):
                    yield self._read(file, manifest, index)

    @overload
    def __getitem__(self, key: int) -> Utterance: ...
    @overload
    def __getitem__(self, key: slice) -> list[Utterance]: ...
    def __getitem__(self, key: int | slice) -> Utterance | list[Utterance]:
        if isinstance(key, slice):
            return [self[index] for index in range(*key.indices(len(self)))]
        index = operator.index(key)
        if index < 0:
            index += len(self)
        if not 0 <= index < len(self):
            raise IndexError(key)
        manifest = self.manifests[int(np.searchsorted(self.ends, index, side="right"))]
        # Opened for each line, as its recording is: an open file could not be shared by processes.
        with _opened(manifest) as file:
            return self._read(file, manifest, index)

    def _read(self, file: IO[bytes], manifest: str, index: int) -> Utterance:
        offset, seconds = self._rows[index].item()
        file.seek(max(offset - 1, 0))
        if offset == 0 or file.read(1) == b"\n":
            try:
                row = parse_row(file.readline().rstrip(b"\n"))
                found = utterance_of(row, Path(manifest).parent, seconds)
            except BadLine:
                pass
            else:
                if np.float32(found.duration) == np.float32(seconds):
                    return found
        raise AsrError(
            f"{manifest}: changed while it was in use: the utterance of {seconds:.2f} s that began "
            f"at byte {offset} is not there any more. Put the old file back"
        )

    def without(self, ids: Collection[str]) -> "UtteranceIndex":
        """The utterances whose id is not among these."""
        found = (utterance.id not in ids for utterance in self)
        keep = np.fromiter(found, dtype=bool, count=len(self))
        ends = [int(np.count_nonzero(keep[:end])) for end in self.ends]
        return UtteranceIndex(self.manifests, ends, self._rows[keep])

    def save(self, path: Path) -> "UtteranceIndex":
        """Write the places and durations to a file, whole or not at all; the same, from there."""
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.save(file, self._rows)
        return UtteranceIndex(self.manifests, self.ends, _mapped(path, len(self)), str(path))

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | ({"_rows": len(self)} if self._path else {})

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self._path:
            self._rows = _mapped(Path(self._path), state["_rows"])


def index_manifests(manifests: Sequence[str | Path]) -> UtteranceIndex:
    """An index of the utterances of manifests; every line is read once.

    Raises AsrError for a manifest that `read_manifest` would refuse.
    """
    offsets, seconds, ends = array("q"), array("f"), list[int]()
    for manifest in manifests:
        for offset, utterance in scan_manifest(manifest):
            offsets.append(offset)
            seconds.append(utterance.duration)
        ends.append(len(offsets))
    rows = np.empty(len(offsets), dtype=_ROW)
    rows["offset"], rows["seconds"] = offsets, seconds
    return UtteranceIndex([str(manifest) for manifest in manifests], ends, rows)


def durations_of(utterances: Sequence[Utterance]) -> np.ndarray:
    """Seconds of each utterance, float32; those of an index without reading a line."""
    if isinstance(utterances, UtteranceIndex):
        return utterances.durations
    return np.array([utterance.duration for utterance in utterances], dtype=np.float32)


def _opened(manifest: str) -> IO[bytes]:
    try:
        return open(manifest, "rb")
    except OSError as error:
        raise AsrError(f"{manifest}: cannot be read any more: {error.strerror}") from None


def _mapped(path: Path, count: int) -> np.ndarray:
    """The rows of a saved index, in memory that processes share."""
    try:
        rows: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise AsrError(
            f"{path}: the index of the utterances cannot be read by process: {error}; the run "
            "folder must lie where all machines see it"
        ) from None
    if rows.dtype != _ROW or len(rows) != count:
        raise AsrError(f"{path}: not the index that was written a moment ago")
    return rows
