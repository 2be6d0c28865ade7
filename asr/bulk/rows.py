"""A row of a result: one recording with its words, or with its error; as JSON lines or Parquet.

Rows have the keys of a manifest (`audio_filepath`, `offset`, `duration`, `text`, `id`), so a
result can be read as one, and those of `asr transcribe -f json`.
"""

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from asr.bulk.listing import ListedRecording
from asr.transcribe.formats import printable, to_plain
from asr.transcribe.transcript import Transcript

if TYPE_CHECKING:
    import pyarrow

ResultForm = Literal["jsonl", "parquet"]
_GROUP = 1000
"""Rows that are converted at once."""


def row_of(recording: ListedRecording, transcript: Transcript, error: str = "") -> dict[str, Any]:
    """A transcript as JSON-able values. `error`: what went wrong with writing it elsewhere."""
    plain = to_plain(transcript)
    del plain["path"]
    row: dict[str, Any] = {
        "id": printable(recording.id),
        "audio_filepath": printable(recording.audio_filepath),
    }
    if recording.offset is not None:
        row["offset"] = recording.offset
    if recording.channel is not None:
        row["channel"] = recording.channel
    row |= plain
    if transcript.error or error:
        row["error"] = printable(transcript.error or error)
    return row


def line_of(row: dict[str, Any]) -> bytes:
    """A row as a line of JSON."""
    return json.dumps(row, ensure_ascii=False).encode() + b"\n"


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a result, JSON lines or Parquet."""
    if path.suffix == ".parquet":
        import pyarrow.parquet

        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches():
                yield from batch.to_pylist()
        return
    with path.open("rb") as file:
        yield from map(json.loads, file)


def write_parquet(lines: Path, path: Path) -> None:
    """Write rows of JSON lines as Parquet; times and scores are floats of 64 bits."""
    import pyarrow
    import pyarrow.parquet

    schema = _schema(pyarrow)
    with pyarrow.parquet.ParquetWriter(path, schema, compression="zstd") as file:
        rows = read_rows(lines)
        while group := list(islice(rows, _GROUP)):
            file.write_table(pyarrow.Table.from_pylist(group, schema=schema))


def _schema(arrow: Any) -> "pyarrow.Schema":
    text, number, flag = arrow.string(), arrow.float64(), arrow.bool_()
    word = {"word": text, "start": number, "end": number, "confidence": number}
    scores = {"score": number, "acoustic_score": number, "lm_score": number}
    hypothesis = arrow.struct({"text": text, **scores})
    part = {"start": number, "end": number, "hypotheses": arrow.list_(hypothesis)}
    return arrow.schema(
        {
            "id": text,
            "audio_filepath": text,
            "offset": number,
            "channel": arrow.int64(),
            "text": text,
            "duration": number,
            "complete": flag,
            "model": text,
            "decoder": text,
            "lm": text,
            "words": arrow.list_(arrow.struct(word)),
            "nbest": arrow.list_(arrow.struct(part)),
            "notes": arrow.list_(text),
            "error": text,
        }
    )
