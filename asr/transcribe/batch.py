"""Transcribes many files: finds them, skips those that are done, mirrors the input tree.

Every output is written whole or not at all, and an output that exists is never written again. So
the same command continues work that was interrupted, and texts that somebody corrected stay.
"""

import errno
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

from asr import audio
from asr.errors import AsrError, counted
from asr.files import CannotWrite, atomic_write_text, check_folder_writable
from asr.transcribe.formats import WRITERS, Writer, find_writer, printable, quoted
from asr.transcribe.options import TranscribeOptions
from asr.transcribe.progress import Progress, progress, times_real
from asr.transcribe.provenance import Provenance
from asr.transcribe.recogniser import Recogniser
from asr.transcribe.subtitles import SubtitleOptions
from asr.transcribe.transcript import Transcript

STDIN = "-"
_STDIN_NAME = "stdin"
_LISTS = (".jsonl", ".json", ".txt", ".lst", ".list")
_OF_SHARDS = "; to transcribe the recordings that it lists, add --shard 1/1"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)
"""Troubles with writing that all further recordings would have too."""


@dataclass(frozen=True)
class WorkItem:
    """One recording, and the output file of each format."""

    path: Path
    name: str
    """What it is called in outputs and messages."""
    outputs: tuple[Path, ...] = ()
    stem: str = ""
    """Name of its outputs below the output folder, without the suffix of a format."""
    taken_by: str | None = None
    """Another recording whose text has that name."""

    @property
    def shown(self) -> str:
        """Its name in a message, on one line."""
        return quoted(printable(self.name))

    def missing(self) -> list[int]:
        """Indices of the outputs that do not exist."""
        return [i for i, output in enumerate(self.outputs) if not _is_written(output)]

    def stale(self) -> bool:
        """Whether the recording is newer than one of its outputs."""
        recorded = self.path.stat().st_mtime_ns
        return any(o.exists() and o.stat().st_mtime_ns < recorded for o in self.outputs)


def transcribe_to(
    recogniser: Recogniser,
    paths: Sequence[str | Path],
    output: Path | None = None,
    formats: Sequence[str] = ("txt",),
    options: TranscribeOptions | None = None,
    overwrite: bool = False,
    bar: bool = False,
    accept_truncated: bool = False,
) -> int:
    """Transcribe files and folders to standard output, or into the folder `output`.

    `-` is standard input. On standard output one recording is its document alone, several are
    lines that begin with the path (JSON: one object a line). In `output` the input tree is
    mirrored, one file per recording and format; files that exist are left alone, and recordings
    that have them all are skipped, unless `overwrite`. A file that is known to be the text of
    another recording (`provenance`) is not taken for this one's. Recordings that cannot be read, or
    whose text cannot be written, are reported on standard error, with the notes and a summary, and
    do not stop the rest; of those that are truncated or damaged, what is there is transcribed.
    `bar` displays a progress bar.

    Returns how many failed or, unless `accept_truncated`, are not complete. Raises AsrError before
    any recording is read for unknown formats, folders without audio, two recordings that would
    share an output file, options that no format uses, and a folder that cannot be written to; later
    for a disk that is full.
    """
    options = replace(recogniser.completed(options), on_error="report")
    writers = [find_writer(name) for name in dict.fromkeys(formats)]
    _refuse(writers, output, options, overwrite)
    recogniser.decoder(options.decoding)  # refuses a missing language model before any reading
    with ExitStack() as stack:
        skipped: list[Path] = []
        provenance = Provenance(output) if output is not None else None
        items = _items(paths, output, writers, provenance, stack, skipped.append)
        if output is None and len(items) > 1 and writers[0].line is None:
            raise AsrError(
                f"{len(items)} recordings as {writers[0].suffix[1:]} need a folder to write to: "
                "give one with -o"
            )
        taken = [item for item in items if item.taken_by and not overwrite]
        todo = [item for item in items if overwrite or not item.outputs or item.missing()]
        todo = [item for item in todo if item not in taken]
        total = sum(audio.header_seconds(item.path) for item in todo) if bar else 0.0
        with progress(total, bar) as display:
            several, accept = len(items) > 1, accept_truncated
            run = _Run(
                recogniser, writers, options, display, several, overwrite, accept, provenance
            )
            run.say_left_out(skipped, taken, output)
            try:
                run.transcribe(todo)
            except KeyboardInterrupt:
                display.say(run.interrupted(len(todo), output))
                raise
            done = set(items) - set(todo) - set(taken)
            run.recall(done)
            run.sum_up(len(done), sum(item.stale() for item in done), output)
    return run.failed + (0 if accept_truncated else run.truncated)


@dataclass
class _Run:
    """The work on a list of recordings, and what is counted on the way."""

    recogniser: Recogniser
    writers: list[Writer]
    options: TranscribeOptions
    display: Progress
    several: bool
    """Whether there is more than one recording: on standard output each then has its path."""
    overwrite: bool
    accept_truncated: bool
    provenance: Provenance | None = None
    started: float = field(default_factory=time.perf_counter)
    done: int = 0
    failed: int = 0
    seconds: float = 0.0
    """Seconds of audio that were transcribed."""
    notes: Counter[str] = field(default_factory=Counter)
    truncated: int = 0
    """Recordings of which only a part could be read."""

    def transcribe(self, items: Sequence[WorkItem]) -> None:
        """Transcribe and write all recordings in their order."""
        sources = (item.path for item in items)
        transcripts = self.recogniser.transcribe(sources, self.options, self.display.advance)
        for item, transcript in zip(items, transcripts, strict=True):
            if transcript.error:
                hint = _OF_SHARDS if item.path.suffix.lower() in _LISTS else ""
                self.fail(transcript.error.replace(str(item.path), item.shown) + hint)
                continue
            try:
                self._write(item, replace(transcript, path=item.name))
            except CannotWrite as error:
                if error.errno in FULL:
                    raise
                self.fail(f"{item.shown}: {error}")  # a name that is too long, for example
                continue
            self.done += 1
            self.seconds += transcript.seconds
            notes = list(transcript.notes)
            if not transcript.complete:
                self.truncated += 1
                self.display.say(f"{item.shown}: {notes.pop()}")
            self.notes.update(notes)

    def say_left_out(
        self, skipped: Sequence[Path], taken: Sequence[WorkItem], output: Path | None
    ) -> None:
        """Say what is not a recording, and fail those whose output is another one's text."""
        if skipped:
            self.display.say(_passed_over(skipped))
        for item in taken:
            self.fail(
                f"{item.shown}: {output / item.stem if output else ''} is the text of "
                f"{item.taken_by}; give another folder, or --overwrite to replace it"
            )

    def recall(self, items: Iterable[WorkItem]) -> None:
        """Say which of the recordings that were done before are not complete."""
        for item in sorted(items, key=lambda item: item.name):
            if self.provenance is not None and not self.provenance.is_complete(item.stem):
                self.truncated += 1
                self.display.say(f"{item.shown}: truncated or damaged, its text is of a part of it")

    def fail(self, message: str) -> None:
        """Report a recording that has no text."""
        self.failed += 1
        self.display.say(message)

    def _write(self, item: WorkItem, transcript: Transcript) -> None:
        if item.outputs:
            if self.provenance is not None:
                self.provenance.add(item.stem, item.path, transcript.complete)
            for i in range(len(item.outputs)) if self.overwrite else item.missing():
                atomic_write_text(item.outputs[i], self.writers[i].document(transcript))
            return
        [writer] = self.writers
        text = writer.document(transcript)
        if self.several:
            assert writer.line is not None
            text = writer.line(transcript)
        text = text.rstrip("\n")
        if text or not self.several:
            self.display.write(text)

    def interrupted(self, count: int, output: Path | None) -> str:
        """The message when somebody stops the work."""
        again = ""
        if output is not None:
            again = f"; the files in {output} are whole: run the same command to continue"
        return f"stopped after {self.done} of {counted(count, 'recording')}{again}"

    def sum_up(self, skipped: int, stale: int, output: Path | None) -> None:
        """Notes and figures on standard error, unless one recording was merely printed."""
        for note, count in self.notes.items():
            self.display.say(f"{counted(count, 'recording')}: {note}")
        if output is None and not self.several:
            return
        elapsed = time.perf_counter() - self.started
        parts = [f"{counted(self.done, 'recording')} transcribed"]
        if self.done:
            parts[0] += f", {self.seconds:.1f} s of audio in {elapsed:.1f} s, "
            parts[0] += times_real(self.seconds, elapsed)
        if skipped:
            changed = f", {stale} before the recording changed" if stale else ""
            parts.append(f"{skipped} skipped, done before{changed} (--overwrite repeats them)")
        if self.truncated:
            how = "accepted" if self.accept_truncated else "--accept-truncated counts them as done"
            parts.append(f"{self.truncated} not complete ({how})")
        self.display.say("; ".join([*parts, f"{self.failed} failed"]))


def _refuse(
    writers: Sequence[Writer], output: Path | None, options: TranscribeOptions, overwrite: bool
) -> None:
    """Refuse what was asked for and would have no effect."""
    if output is None and len(writers) > 1:
        raise AsrError("several formats need a folder to write to: give one with -o")
    if output is None and overwrite:
        raise AsrError("overwrite: there is nothing to overwrite without a folder (-o)")
    if output is not None and output.exists() and not output.is_dir():
        raise AsrError(f"{output}: is a file; the output must be a folder")
    if output is not None:
        check_folder_writable(output)
    if options.subtitles != SubtitleOptions() and not any(w.subtitles for w in writers):
        raise AsrError("limits of subtitles are for the formats srt and vtt; ask for one of them")
    names = {writer.suffix[1:] for writer in writers}
    if options.decoding and options.decoding.nbest > 1 and "json" not in names:
        raise AsrError("nbest: only the format json holds several hypotheses; ask for it with -f")


def _items(
    paths: Sequence[str | Path],
    output: Path | None,
    writers: Sequence[Writer],
    provenance: Provenance | None,
    stack: ExitStack,
    on_skip: Callable[[Path], object],
) -> list[WorkItem]:
    """All recordings among `paths` in order, with their outputs; `stack` as in `_found`."""
    found = _found(paths, stack, on_skip)
    if output is None or provenance is None:
        return [WorkItem(path, name) for path, name, _ in found]
    kept = [_has_text(output, whole, path, provenance) for path, _, whole in found]
    stems = _stems([whole for _, _, whole in found], kept)
    items, owners = [], dict[Path, str]()
    for (path, name, whole), stem in zip(found, stems, strict=True):
        base = output / stem
        other = owners.setdefault(base, name)
        if other != name:
            raise AsrError(
                f"{other} and {name} would both be written to {base}{writers[0].suffix}; "
                "transcribe them apart, or give the folder that holds both"
            )
        taken_by = _owner(output, stem, path, provenance)
        if taken_by and Path(taken_by).name != whole.name and whole not in stems:
            # As of two recordings of one name: the suffix distinguishes them.
            stem, taken_by = whole, _owner(output, whole, path, provenance)
        outputs = tuple(_output(output, stem, writer) for writer in writers)
        items.append(WorkItem(path, name, outputs, stem.as_posix(), taken_by))
    return items


def _found(
    paths: Sequence[str | Path], stack: ExitStack, on_skip: Callable[[Path], object]
) -> list[tuple[Path, str, Path]]:
    """Each recording once: its file, its name, and its place in the tree that is mirrored.

    What can be read only once, standard input and pipes, is copied to a file in `stack`: whose text
    an output is, its content decides.
    """
    if list(map(str, paths)).count(STDIN) > 1:
        raise AsrError("standard input (-) can be read once")
    found: dict[Path, tuple[Path, str, Path]] = {}
    for path in dict.fromkeys(map(Path, paths)):
        if str(path) == STDIN:
            copy = stack.enter_context(_copied(sys.stdin.buffer))
            found[path] = copy, STDIN, Path(_STDIN_NAME)
        elif path.is_fifo():
            try:
                with path.open("rb") as pipe:
                    copy = stack.enter_context(_copied(pipe))
            except OSError as error:
                raise AsrError(f"{path}: cannot be read: {error.strerror}") from None
            found[path] = copy, str(path), Path(path.name)
        else:
            for each in audio.find([path], on_skip):
                found[each.path] = each.path, str(each.path), each.relative
    return list(found.values())


def _output(folder: Path, stem: Path, writer: Writer) -> Path:
    return folder / stem.with_name(stem.name + writer.suffix)


def _is_written(output: Path) -> bool:
    # Path.exists raises for a name that is too long.
    return os.path.exists(output) and not os.path.isdir(output)


def _owner(folder: Path, stem: Path, recording: Path, provenance: Provenance) -> str | None:
    """The other recording whose text is there under this name, if one is known."""
    name = stem.as_posix()
    if provenance.may_be_of(name, recording):
        return None
    return provenance.owner(name) if _any_written(folder, stem) else None


def _has_text(folder: Path, whole: Path, recording: Path, provenance: Provenance) -> bool:
    """Whether a recording is known to have a text whose name is without its suffix."""
    stem = whole.with_suffix("")
    known = provenance.owner(stem.as_posix()) and _any_written(folder, stem)
    return bool(known) and provenance.may_be_of(stem.as_posix(), recording)


def _any_written(folder: Path, stem: Path) -> bool:
    return any(_is_written(_output(folder, stem, writer)) for writer in WRITERS.values())


def _stems(paths: Sequence[Path], kept: Sequence[bool]) -> list[Path]:
    """Names of outputs: without the suffix, but with it where two would otherwise be equal.

    Of those that would be equal, the first that is `kept` stays without: it has a text of that
    name, which somebody may have corrected.
    """
    stems = [path.with_suffix("") for path in paths]
    keeps, names = dict[Path, Path](), set(paths)
    for path, stem, keep in zip(paths, stems, kept, strict=True):
        if keep and stem not in names:
            keeps.setdefault(stem, path)
    while True:
        count = Counter(stems)
        longer = [
            p if count[s] > 1 and keeps.get(s) != p else s
            for p, s in zip(paths, stems, strict=True)
        ]
        if longer == stems:
            return stems
        stems = longer


def _passed_over(paths: Sequence[Path]) -> str:
    """What was not taken for a recording in folders, by suffix."""
    counts = Counter(path.suffix.lower() or "without a suffix" for path in paths)
    kinds = ", ".join(f"{number} {suffix}" for suffix, number in counts.most_common())
    return f"{counted(len(paths), 'file')} passed over, not recordings: {kinds}"


@contextmanager
def _copied(source: IO[bytes]) -> Iterator[Path]:
    """The rest of an open file as a file of its own, whatever its length."""
    if os.path.isdir("/dev/fd"):
        # A file without a name: nothing stays behind, whatever ends the process.
        with tempfile.TemporaryFile(prefix="asr-") as copy:
            shutil.copyfileobj(source, copy)
            copy.flush()
            os.utime(copy.fileno(), (0, 0))  # it did not change since its text was written
            yield Path(f"/dev/fd/{copy.fileno()}")
        return
    with tempfile.TemporaryDirectory(prefix="asr-") as folder:
        path = Path(folder) / _STDIN_NAME
        with path.open("wb") as file:
            shutil.copyfileobj(source, file)
        os.utime(path, (0, 0))
        yield path
