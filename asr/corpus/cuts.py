"""Manifests of lhotse, which prepares about a hundred corpora, as utterances of ours.

Needs the package lhotse. A supervision becomes an utterance: a whole recording, or the part from
its start on.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from asr.corpus.manifest import Utterance, not_found, with_list
from asr.errors import AsrError

_WHOLE_SECONDS = 0.005
"""A segment that is nearer than this to both ends of its recording is the recording."""


def read_cuts(paths: Sequence[str | Path], root: str | Path = "") -> list[Utterance]:
    """The utterances of a file of cuts, or of one of recordings and one of supervisions.

    Relative paths of recordings are relative to `root`. Of a recording of several channels the
    supervision's is taken. Raises AsrError for what is not lhotse's, and lists what cannot be
    expressed: mixed cuts, changed speed, recordings that are not files.
    """
    utterances: list[Utterance] = []
    problems: list[str] = []
    seen: dict[str, int] = {}
    for cut in _load([Path(path) for path in paths]):
        try:
            found = list(_utterances(cut, Path(root)))
        except _Refused as why:
            problems.append(f"{cut.id}: {why}")
            continue
        for utterance in found:
            # Ids of supervisions are unique within a corpus, but not in cuts that were split.
            seen[utterance.id] = seen.get(utterance.id, 0) + 1
            utterances.append(utterance)
    if problems:
        heading = f"{paths[0]}: cuts that a manifest cannot express: {len(problems)}"
        raise AsrError(with_list(heading, problems))
    twice = [key for key, count in seen.items() if count > 1]
    if twice:
        raise AsrError(with_list(f"{paths[0]}: ids of supervisions that occur twice:", twice))
    if not utterances:
        raise AsrError(f"{paths[0]}: no supervision, so nothing says what is spoken")
    return utterances


class _Refused(Exception):
    """Why a cut cannot be an utterance."""


def _load(paths: Sequence[Path]) -> Any:
    """The cuts of the files. Raises AsrError for files of another kind."""
    for path in paths:
        if not path.is_file():
            raise not_found(path, "file of lhotse")
    import lhotse

    loaded = []
    for path in paths:
        try:
            loaded.append(lhotse.serialization.load_manifest_lazy_or_eager(path))
        except Exception as error:  # whatever its readers of JSON, YAML and gzip raise
            raise AsrError(f"{path}: lhotse cannot read it: {error!s:.200}") from None
    kinds = {type(manifest).__name__: manifest for manifest in loaded}
    if list(kinds) == ["CutSet"] and len(loaded) == 1:
        return loaded[0]
    if set(kinds) == {"RecordingSet", "SupervisionSet"} and len(loaded) == 2:
        return lhotse.CutSet.from_manifests(
            recordings=kinds["RecordingSet"], supervisions=kinds["SupervisionSet"]
        )
    found = " and ".join(type(manifest).__name__ for manifest in loaded)
    raise AsrError(
        f"{paths[0]}: {found}; give one file of cuts, or one of recordings and one of supervisions"
    )


def _utterances(cut: Any, root: Path) -> Iterator[Utterance]:
    if not getattr(cut, "has_recording", False):
        raise _Refused("has no recording")
    recording = getattr(cut, "recording", None)
    if recording is None:
        raise _Refused("is mixed of several recordings, or padded")
    if recording.transforms:
        raise _Refused("is changed in speed or otherwise; import the cuts before that")
    for supervision in cut.supervisions:
        start = max(cut.start + supervision.start, 0.0)
        end = min(cut.start + supervision.start + supervision.duration, recording.duration)
        if end <= start:
            raise _Refused(f"{supervision.id} lies outside of its recording")
        path, channel = _place(recording, supervision.channel)
        whole = start < _WHOLE_SECONDS and recording.duration - end < _WHOLE_SECONDS
        yield Utterance(
            id=supervision.id,
            audio_filepath=str(root / path),
            duration=round(end - start, 6),
            text=supervision.text or "",
            speaker=supervision.speaker or "",
            offset=None if whole else round(start, 6),
            channel=channel,
        )


def _place(recording: Any, channels: int | list[int]) -> tuple[str, int | None]:
    """The file that has the channels, and which of its own is meant, from 1; None: all."""
    wanted = [channels] if isinstance(channels, int) else list(channels)
    for source in recording.sources:
        if source.type != "file":
            raise _Refused(f"its recording is not a file but {source.type!r}")
        if set(wanted) == set(source.channels):
            return source.source, None
        if len(wanted) == 1 and wanted[0] in source.channels:
            return source.source, source.channels.index(wanted[0]) + 1
    raise _Refused(f"its channels {wanted} are not those of one file, nor one of them")
