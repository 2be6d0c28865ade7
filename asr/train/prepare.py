"""What a training reads: checked utterances of train, dev and test, and the tokenizer."""

import hashlib
import json
import math
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any

from rich.console import Console

from asr import audio
from asr.audio import simulate
from asr.corpus import sources
from asr.corpus.check import CheckReport, Criteria, check
from asr.corpus.index import UtteranceIndex
from asr.corpus.manifest import Utterance
from asr.errors import AsrError
from asr.evaluate.ref_hyp import file_name
from asr.files import atomic_write_text
from asr.settings.data import AugmentSettings
from asr.settings.run import Run
from asr.text.normalise import normalise
from asr.text.tokenizer import (
    CharacterTokenizer,
    Tokenizer,
    load_tokenizer_file,
    train_sentencepiece,
)
from asr.train.folder import resume_point
from asr.train.initial import tokenizer_of_init

_MOST_TEXTS = 2_000_000
"""That a tokenizer is trained on, evenly taken from more: SentencePiece holds all of them."""


@dataclass(frozen=True)
class Prepared:
    """What a training works with."""

    train: UtteranceIndex
    dev: UtteranceIndex
    tokenizer: Tokenizer
    excluded: int
    """Utterances of train and dev that were left out."""


def prepare(settings: Run, folder: Path, console: Console) -> Prepared:
    """Read and check the data that the settings name.

    What cannot be used (CTC cannot align it, empty, unknown characters, unreadable, too long) is
    listed in `unusable.txt` of the run folder, and left out only by `data.unusable=exclude`.

    Raises:
        AsrError: for unusable utterances otherwise, for a recording in two of train, dev and
            test, for an unreadable test recording, and for an entry that does not exist.
    """
    data = settings.data
    if not data.train or not data.dev:
        raise AsrError("data.train and data.dev must each name at least one manifest or folder")

    lists = folder / "data"
    parts = {
        part: sources.index(entries, data.root, data.spoken, lists / part)
        for part, entries in (("train", data.train), ("dev", data.dev))
    }
    tests = {entry: sources.resolve(entry, data.root, data.spoken) for entry in data.test}
    _refuse_overlap({**parts, "test": [u for utterances in tests.values() for u in utterances]})
    if not resume_point(folder).exists():
        _check_names(data.test)
        _check_augment(settings.augment, settings.frontend.sample_rate)
    _check_tests(tests, settings.frontend.sample_rate, folder / "tests_checked.json")
    tokenizer = _tokenizer(settings, folder, parts["train"])
    reports, new = _reports(parts, tokenizer, settings, folder / "data_checked.json")
    excluded = sum(report.count for report in reports.values())
    if excluded:
        _refuse_or_list(reports, settings, folder / "unusable.txt", console)
        parts = {part: parts[part].without(report.ids) for part, report in reports.items()}
    for part, utterances in parts.items():
        if not utterances:
            raise AsrError(f"data.{part}: nothing is left to use; see {folder / 'unusable.txt'}")
    if new:  # every header is read for this
        _print_conversions(chain(parts["train"], parts["dev"]), settings, console)
    # The other processes open these files: of millions of utterances they are sent nothing.
    saved = {part: found.save(lists / f"{part}.npy") for part, found in parts.items()}
    return Prepared(saved["train"], saved["dev"], tokenizer, excluded)


def _refuse_overlap(parts: Mapping[str, Sequence[Utterance]]) -> None:
    """Refuse recordings that are in two of train, dev and test, by whatever path.

    Of utterances that are parts of a recording, those that overlap. The places of dev and test are
    held in memory; those of train, which may be millions, are not.
    """
    places: dict[str, list[tuple[float, float, str]]] = {}
    for name in sorted(parts, key=lambda name: name == "train"):
        for u in parts[name]:
            real = os.path.realpath(u.audio_filepath)
            start = u.offset or 0.0
            end = math.inf if u.offset is None else start + u.duration
            for begins, ends, other in places.get(real, ()):
                if other != name and begins < end and start < ends:
                    raise AsrError(
                        f"{u.audio_filepath} is in data.{other} and in data.{name}: train, dev and "
                        "test must have no recording in common"
                    )
            if name != "train":
                places.setdefault(real, []).append((start, end, name))


def _check_names(entries: Sequence[str]) -> None:
    """Refuse test sets that reports, or the files of a run folder, could not distinguish."""
    names = [sources.describe(entry) for entry in entries]
    files = [file_name(name) for name in names]
    for entry, name, file in zip(entries, names, files, strict=True):
        if names.count(name) > 1:
            raise AsrError(f"data.test: {entry} and another entry are both called {name!r}")
        if files.count(file) > 1:
            raise AsrError(
                f"data.test: {entry} and another entry would both be written to {file}; give one "
                "of the manifests another name"
            )


def _check_augment(augment: AugmentSettings, sample_rate: int) -> None:
    """Read noise and impulse responses once: a damaged one may first be drawn at a late step."""
    for key, read in (("noise_folder", audio.load), ("response_folder", simulate.response)):
        folder = getattr(augment, key)
        try:
            for path in simulate.recordings(folder) if folder else ():
                read(path, sample_rate)
        except AsrError as error:
            raise AsrError(f"augment.{key}: {error}") from None


def _check_tests(tests: Mapping[str, Sequence[Utterance]], sample_rate: int, record: Path) -> None:
    """Decode every test recording once, before training: not after it does one turn out damaged.

    `record` remembers which files were good, for resumed trainings.
    """
    checked = _state_of((u for utterances in tests.values() for u in utterances), sample_rate)
    if _recorded(record) == checked:
        return
    for entry, utterances in tests.items():
        for u in utterances:
            try:
                audio.load(u.source, sample_rate)
            except AsrError as error:
                raise AsrError(f"data.test, {entry}: {error}") from None
    atomic_write_text(record, json.dumps(checked) + "\n")


def _state_of(utterances: Iterable[Utterance], sample_rate: int) -> dict[str, Any]:
    """What tells whether recordings have changed: their paths, sizes and times of change."""
    digest = hashlib.sha256()
    for u in utterances:
        try:
            state = os.stat(u.audio_filepath)
        except OSError:
            continue  # decoding says what is wrong with it
        line = f"{os.path.realpath(u.audio_filepath)}\t{state.st_size}\t{state.st_mtime_ns}"
        line += "\n" if isinstance(u.source, str) else f"\t{u.source}\n"
        digest.update(line.encode(errors="surrogateescape"))
    return {"sample_rate": sample_rate, "files": digest.hexdigest()}


def _recorded(record: Path) -> Any:
    """What a record of an earlier check says; None if there is none that can be read."""
    try:
        return json.loads(record.read_bytes())
    except (OSError, ValueError):
        return None


def _reports(
    parts: Mapping[str, Sequence[Utterance]], tokenizer: Tokenizer, settings: Run, record: Path
) -> tuple[dict[str, CheckReport], bool]:
    """What is wrong with the utterances of each part; only those of train are changed in speed.

    Every recording is decoded: damage inside it, or samples that are not numbers, would stop the
    training hours later. `record` remembers which files were good, for resumed trainings. The
    second value is whether this was done: False if nothing has changed since.
    """
    model = replace(settings.model, outputs=tokenizer.size)
    frontend = settings.frontend
    checked = _state_of((u for part in parts.values() for u in part), frontend.sample_rate)
    decode = _recorded(record) != checked
    plain = Criteria(frontend.sample_rate, frontend.frames, model.output_length, decode=decode)
    augmented = replace(
        plain, max_seconds=settings.data.max_seconds, speed=max(settings.augment.speeds)
    )
    reports = {
        part: check(utterances, tokenizer, augmented if part == "train" else plain)
        for part, utterances in parts.items()
    }
    if decode and not any("unreadable" in report.problems for report in reports.values()):
        atomic_write_text(record, json.dumps(checked) + "\n")
    return reports, decode


def _refuse_or_list(
    reports: Mapping[str, CheckReport], settings: Run, path: Path, console: Console
) -> None:
    """Write all problems to `path`; AsrError unless the settings leave such utterances out."""
    found = {f"data.{part}": report for part, report in reports.items() if report.count}
    whole = [f"{part}: {report.table(None)}" for part, report in found.items()]
    atomic_write_text(path, "\n\n".join(whole) + "\n")
    if settings.data.unusable == "refuse":
        tables = "\n".join(f"{part}: {report.table()}" for part, report in found.items())
        raise AsrError(
            f"{tables}\nAll are in {path}. Fix them, or leave them out with data.unusable=exclude"
        )
    excluded = sum(report.count for report in found.values())
    console.print(
        f"{settings.name}: {excluded} utterances left out, listed in {path}", highlight=False
    )


def _print_conversions(utterances: Iterable[Utterance], settings: Run, console: Console) -> None:
    """Say how many recordings are resampled or mixed to one channel."""
    rate = settings.frontend.sample_rate
    counts = Counter[str]()
    for u in utterances:
        with audio.open_recording(u.audio_filepath) as recording:
            if recording.rate != rate:
                counts[f"resampled from {recording.rate} to {rate} Hz"] += 1
            if recording.channels > 1:
                counts[f"of {recording.channels} channels mixed to one"] += 1
    for what, count in sorted(counts.items()):
        console.print(f"{settings.name}: {count} recordings {what}")


def _tokenizer(settings: Run, folder: Path, train: Sequence[Utterance]) -> Tokenizer:
    if of_init := tokenizer_of_init(settings):
        return of_init
    if settings.tokenizer.kind == "characters":
        return CharacterTokenizer()
    given = settings.tokenizer.file
    path = Path(given) if given else folder / "tokenizer.model"
    # Only a resumed run uses the one that is there: it may be of a start that was refused, and
    # settings or texts may have changed since.
    if not given and not resume_point(folder).exists():
        every = -(-len(train) // _MOST_TEXTS)
        texts = (normalise(u.text) for u in islice(train, 0, None, every))
        train_sentencepiece(texts, settings.tokenizer.size, path)
    return load_tokenizer_file(path)
