"""The commands that list recordings, and `asr check`, which finds those that cannot be used."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from asr.corpus import common_voice, librispeech
from asr.corpus import folder as own
from asr.corpus.check import CheckReport, Criteria, Encoder, check, usable
from asr.corpus.cuts import read_cuts
from asr.corpus.manifest import Utterance, read_manifest, with_list, write_manifest
from asr.corpus.sources import resolve
from asr.corpus.split import split
from asr.corpus.survey import Remark, survey
from asr.errors import AsrError
from asr.files import check_folder_writable, check_writable


def make_manifest(
    layout: Literal["auto", "librispeech", "folder"],
    folder: Path,
    out: Path,
    texts: own.Texts = "auto",
    tsv: Path | None = None,
) -> list[Utterance]:
    """Write a manifest of the recordings in `folder` to `out` and print what is in it.

    `texts` and `tsv` say where a folder of your own has its texts (`asr.corpus.folder.scan`).
    Raises AsrError for whatever the scan refuses, and for `texts` or `tsv` with LibriSpeech.
    """
    check_writable(out)
    if layout == "auto":
        layout = "librispeech" if librispeech.has_layout(folder) else "folder"
    if layout == "folder":
        found = own.scan(folder, texts, tsv, ignore=out)
    elif texts != "auto" or tsv is not None:
        raise AsrError(
            f"{folder}: LibriSpeech's layout has its own texts; choose texts or a table only "
            "for a folder of your own (layout folder)"
        )
    else:
        found = librispeech.scan(folder)
    _write(out, found)
    return found


def make_common_voice(
    folder: Path, parts: Sequence[str] = common_voice.PARTS, output: Path | None = None
) -> None:
    """Write `PART.jsonl` of a language of Common Voice to `output`, or beside its tables."""
    language = common_voice.find_language(folder)
    output = output or language
    check_folder_writable(output)
    for part in dict.fromkeys(parts):
        _write(output / f"{part}.jsonl", common_voice.scan(language, part))


def make_ljspeech(folder: Path, output: Path | None = None, metadata: Path | None = None) -> None:
    """Write a manifest of a folder with a `metadata.csv` to `output`, or `metadata.jsonl` in it."""
    output = output or folder / "metadata.jsonl"
    check_writable(output)
    _write(output, own.scan(folder, "csv", metadata, ignore=output))


def import_cuts(files: Sequence[Path], output: Path, root: Path) -> None:
    """Write a manifest of what lhotse's manifests list (`asr.corpus.cuts`)."""
    check_writable(output)
    _write(output, read_cuts(files, root))


def split_manifest(manifest: Path, output: Path | None, dev: float, test: float, seed: int) -> None:
    """Write `train.jsonl`, `dev.jsonl` and `test.jsonl` to `output`, or beside the manifest.

    Raises AsrError as `asr.corpus.split.split`, and for a file that is there already.
    """
    output = output or manifest.parent
    check_folder_writable(output)
    sets, dealt = split(read_manifest(manifest), dev, test, seed)
    paths = {name: output / f"{name}.jsonl" for name in sets}
    if there := [str(path) for path in paths.values() if path.exists()]:
        raise AsrError(f"{', '.join(there)}: there already; remove them, or name another folder")
    for name, path in paths.items():
        _write(path, sets[name])
    if dealt == "recordings":
        print("recordings were dealt, not speakers: dev and test have voices of train")


def _write(path: Path, utterances: Sequence[Utterance]) -> None:
    write_manifest(path, utterances)
    _print_summary(path, utterances)


def check_utterances(
    source: str,
    tokenizer: Encoder,
    criteria: Criteria,
    exclude_to: Path | None = None,
) -> CheckReport:
    """Check a manifest or folder, print what was found, write the usable rest to `exclude_to`.

    Raises AsrError if problems are found and `exclude_to` is not given, or if nothing usable is
    left.
    """
    if exclude_to is not None and exclude_to.resolve() == Path(source).resolve():
        raise AsrError(f"{exclude_to}: this is the manifest that is checked; choose another name")
    check_writable(exclude_to)
    utterances = resolve(source)
    _print_summary(source, utterances)
    errors = Console(stderr=True)
    with Progress(console=errors, transient=True, disable=not errors.is_terminal) as progress:
        task = progress.add_task("checking", total=2 * len(utterances))
        report = check(utterances, tokenizer, criteria, lambda: progress.advance(task))
        remarks = survey(utterances, criteria.sample_rate, lambda: progress.advance(task))
    _print_remarks(remarks)
    _print_report(report)
    if report.problems and exclude_to is None:
        raise AsrError(
            f"{source}: {report.count} of {report.checked} utterances cannot be used, as listed "
            "above; fix them, or leave them out with --exclude-to FILE"
        )
    if exclude_to is not None:
        rest = usable(utterances, report)
        if not rest:
            raise AsrError(f"{source}: no usable utterance is left, {exclude_to} is not written")
        _write(exclude_to, rest)
    return report


def _print_summary(path: str | Path, utterances: Sequence[Utterance]) -> None:
    """One line of counts; recordings that could not be opened are named below it."""
    console = Console(soft_wrap=True, highlight=False)
    hours = sum(utterance.duration for utterance in utterances) / 3600
    longest = max((utterance.duration for utterance in utterances), default=0.0)
    speakers = len({utterance.speaker for utterance in utterances} - {""})
    line = (
        f"{path}: {len(utterances)} utterances, {hours:.2f} hours, longest {longest:.1f} s, "
        f"{speakers or 'unknown'} speakers"
    )
    console.print(Text(line))
    unread = [utterance.audio_filepath for utterance in utterances if utterance.duration == 0]
    if unread:
        heading = f"{len(unread)} recordings are empty or cannot be opened:"
        console.print(Text(with_list(heading, unread)))


def _print_remarks(remarks: Sequence[Remark]) -> None:
    console = Console(highlight=False)
    for remark in remarks:
        line = f"{remark.name}: {remark.count} utterances; {remark.meaning}"
        console.print(Text(with_list(line, remark.examples, None)), soft_wrap=True)


def _print_report(report: CheckReport) -> None:
    console = Console(highlight=False)
    if not report.problems:
        console.print(Text(report.table()))
        return
    counts = Table(title=f"{report.count} of {report.checked} utterances with problems")
    counts.add_column("problem")
    counts.add_column("utterances", justify="right")
    counts.add_column("meaning")
    for kind, number, meaning in report.rows():
        counts.add_row(kind, str(number), meaning)
    console.print(counts)
    for listed in report.lists():
        console.print(Text(listed), soft_wrap=True)
