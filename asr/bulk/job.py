"""What every shard of a job has in common, and how one shard is transcribed.

`asr transcribe --shard` runs one shard of a job, `asr cluster transcribe` all of them, each by
`BulkJob.run`.
"""

import hashlib
import os
import sys
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from asr.bulk.listing import ListedRecording
from asr.bulk.plan import BulkPlan, begin
from asr.bulk.rows import ResultForm, row_of
from asr.bulk.shard import ShardFiles, ShardRows, ShardTotals
from asr.errors import AsrError
from asr.files import CannotWrite, atomic_write_text
from asr.model.backend import BackendName, Device
from asr.plain import to_plain
from asr.pretrained import registry
from asr.transcribe.batch import FULL
from asr.transcribe.formats import Writer, find_writer
from asr.transcribe.options import TranscribeOptions
from asr.transcribe.recogniser import Recogniser, load_for_command
from asr.transcribe.subtitles import SubtitleOptions
from asr.transcribe.transcript import Transcript

OnRow = Callable[[ShardTotals], object]
"""Is called with the totals of a shard when it begins and after each of its rows."""


def _print(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class BulkJob:
    """How recordings become rows in a folder. Raises AsrError for what would have no effect."""

    output: Path | None
    """Folder of the results."""
    options: TranscribeOptions
    model: str | None = None
    """A model file or a name, as `load` takes it."""
    formats: tuple[str, ...] = ()
    """What is written of each recording beside its row."""
    form: ResultForm = "jsonl"
    threads: int = 1
    backend: BackendName = "auto"
    exact: bool = False
    device: Device = "cpu"
    say: Callable[[str], object] = field(default=_print, repr=False)
    """Is called with messages for a person."""

    def __post_init__(self) -> None:
        if self.output is None:
            raise AsrError("shards need a folder for their results: give one with -o")
        # Absolute: a worker has another current folder.
        object.__setattr__(self, "output", Path(os.path.abspath(self.output)))
        if registry.named(self.model) is None:
            object.__setattr__(self, "model", os.path.abspath(str(self.model)))
        decoding = self.options.decoding or registry.decoding(self.model, {})
        if decoding.lm:
            decoding = replace(decoding, lm=os.path.abspath(decoding.lm))
        options = replace(self.options, decoding=decoding, on_error="report")
        object.__setattr__(self, "options", options)
        if "json" in self.formats:
            raise AsrError(
                "format json: the rows of a shard hold that already; -f is for what is written "
                "beside them: txt, srt, vtt or tsv"
            )
        writers = [find_writer(name) for name in self.formats]
        if self.options.subtitles != SubtitleOptions() and not any(w.subtitles for w in writers):
            raise AsrError(
                "limits of subtitles are for the formats srt and vtt; ask for one of them"
            )
        if self.form == "parquet":
            import pyarrow  # noqa: F401  # a missing package is reported before hours of work

    @property
    def folder(self) -> Path:
        """Folder of the results, absolute."""
        assert self.output is not None
        return self.output

    @property
    def _writers(self) -> list[Writer]:
        return [find_writer(name) for name in self.formats]

    def settings(self) -> dict[str, str]:
        """What decides the rows, as texts by name: rows of other settings may not stand beside."""
        options = to_plain(self.options)
        decoding = options["decoding"]
        if decoding["lm"]:
            decoding["lm"] = _identity(Path(decoding["lm"]), content=False)
        found = {
            "model": _identity(registry.resolve(self.model)),
            "formats": ",".join(self.formats),
            "result": self.form,
            "channel": str(options["channel"]),
            "case": str(options["case"]),
            "exact": str(self.exact),
            "backend": self.backend,
        }
        for section in ("decoding", "chunks", "subtitles"):
            found |= {f"{section}.{k}": str(v) for k, v in options[section].items()}
        return found

    def begin(self, inputs: Sequence[str | Path], shards: int | None) -> BulkPlan:
        """The plan of the folder, made if there is none yet. Raises AsrError as `plan.begin`."""
        plan, known = begin(self.folder, inputs, shards, self.settings())
        if known:
            self.say(
                f"{self.folder}: goes on with the list of {plan.recordings:,} recordings made at "
                f"{plan.listed}; what was added to {', '.join(plan.inputs)} since is not in it"
            )
        return plan

    def load(self) -> Recogniser:
        """The recogniser of the job, and its decoder. Raises AsrError as `load` does."""
        decoding = self.options.decoding
        recogniser = load_for_command(
            self.model, self.threads, self.backend, self.exact, decoding, self.device
        )
        recogniser.decoder(decoding)  # opens the language model
        return recogniser

    def run(
        self,
        plan: BulkPlan,
        index: int,
        recogniser: Recogniser,
        on_row: OnRow = lambda totals: None,
        alone: bool = False,
        fatal: int | None = None,
    ) -> ShardTotals:
        """Transcribe what is left of the `index`-th shard, from 1; what all its rows add up to.

        A recording that cannot be read, or whose outputs cannot be written, is a row with its
        error. `alone`: one recording after the other, each written at once. `fatal`: the
        recording with so many rows before it ended its process again and again; its row says so.
        Raises ShardTaken, and AsrError for what all recordings would fail of, such as a full disk.
        """
        files = ShardFiles(self.folder, plan, index, self.form)
        with files.opened() as rows:
            if rows is None:
                return files.totals() or ShardTotals()
            on_row(rows.totals)
            if fatal is not None and rows.totals.rows == fatal:
                recording = next(rows.left)
                error = f"{recording.source}: the process that read it was ended twice"
                self._add(rows, recording, self._failed(recording, error, recogniser))
            for recording, transcript in self._transcripts(recogniser, rows.left, alone):
                self._add(rows, recording, transcript)
                on_row(rows.totals)
            rows.finish()
            return rows.totals

    def _transcripts(
        self, recogniser: Recogniser, recordings: Iterator[ListedRecording], alone: bool
    ) -> Iterator[tuple[ListedRecording, Transcript]]:
        """Transcripts of recordings in their order, whatever happens with one of them."""
        if alone:
            yield from ((each, self._alone(recogniser, each)) for each in recordings)
            return
        waiting: deque[ListedRecording] = deque()

        def sources() -> Iterator[object]:
            for recording in recordings:
                waiting.append(recording)
                yield recording.source

        while True:
            transcripts = recogniser.transcribe(sources(), self.options)
            try:
                for transcript in transcripts:
                    yield waiting.popleft(), transcript
                return
            except Exception:  # a bug, or memory that is too small: of which one?
                again = list(waiting)
                waiting.clear()
            yield from ((each, self._alone(recogniser, each)) for each in again)

    def _alone(self, recogniser: Recogniser, recording: ListedRecording) -> Transcript:
        try:
            [transcript] = recogniser.transcribe([recording.source], self.options)
            return transcript
        except Exception as error:
            self.say(traceback.format_exc())
            message = f"{recording.source}: {type(error).__name__}: {error}"
            return self._failed(recording, message, recogniser)

    def _failed(self, recording: ListedRecording, error: str, recogniser: Recogniser) -> Transcript:
        return Transcript(
            recording.audio_filepath, "", 0.0, recogniser.name, error=error, options=self.options
        )

    def _add(self, rows: ShardRows, recording: ListedRecording, transcript: Transcript) -> None:
        error = ""
        if not transcript.error:
            try:
                self._write(recording, transcript)
            except CannotWrite as reason:
                if reason.errno in FULL:
                    raise
                error = str(reason)  # a name that is too long, for example
        if transcript.error or error:
            self.say(transcript.error or error)
        elif not transcript.complete:
            self.say(f"{recording.source}: {transcript.notes[-1]}")
        rows.add(row_of(recording, transcript, error))

    def _write(self, recording: ListedRecording, transcript: Transcript) -> None:
        """Write the other formats: files that exist are of the same settings, or were corrected."""
        for writer in self._writers:
            path = self.folder / (recording.id + writer.suffix)
            if not os.path.exists(path):
                atomic_write_text(path, writer.document(transcript))


def _identity(path: Path, content: bool = True) -> str:
    """Name and content of a file in a few words, the same on every machine."""
    try:
        size = path.stat().st_size
        if not content:
            return f"{path.name} ({size:,} bytes)"
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise AsrError(f"{path}: cannot be read: {error.strerror}") from None
    return f"{path.name} (sha256 {digest[:16]})"
