"""What a training reads: utterances of train and dev, checked, apart from test; and the units."""

import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import soundfile
from rich.console import Console

from asr import audio
from asr.corpus import check, sources
from asr.corpus.manifest import Utterance
from asr.errors import AsrError
from asr.files import atomic_write_text
from asr.settings.run import Run
from asr.text.normalise import normalise
from asr.text.tokenizer import (
    CharacterTokenizer,
    Tokenizer,
    load_tokenizer_file,
    train_sentencepiece,
)
from asr.train.folder import resume_point


def prepare(
    settings: Run, folder: Path, console: Console
) -> tuple[list[Utterance], list[Utterance], Tokenizer, int]:
    """Train and dev utterances that can be used, the units, and how many were left out.

    What cannot be used (CTC cannot align it, empty, unknown symbols, unreadable, too long) is
    listed in `unusable.txt` of the run folder, and left out only by `data.unusable=exclude`.

    Raises:
        AsrError: for unusable utterances otherwise, for a recording in two of train, dev and
            test, for an unreadable test recording, and for an entry that is not there.
    """
    data = settings.data
    if not data.train or not data.dev:
        raise AsrError("data.train and data.dev must each name at least one manifest or folder")
    parts = {
        "train": [u for entry in data.train for u in sources.resolve(entry, data)],
        "dev": [u for entry in data.dev for u in sources.resolve(entry, data)],
    }
    tests = {entry: sources.resolve(entry, data) for entry in data.test}
    _apart({**parts, "test": [u for utterances in tests.values() for u in utterances]})
    _check_tests(tests, settings)
    tokenizer = _units(settings, folder, [normalise(u.text) for u in parts["train"]])
    model = replace(settings.model, outputs=tokenizer.size)
    reports = {
        part: check.check(
            utterances,
            tokenizer,
            settings.frontend,
            model,
            max_seconds=data.max_seconds if part == "train" else None,
            speed=max(settings.augment.speeds) if part == "train" else 1.0,
        )
        for part, utterances in parts.items()
    }
    excluded = sum(report.count for report in reports.values())
    if excluded:
        found = {f"data.{part}": report for part, report in reports.items() if report.count}
        listed = folder / "unusable.txt"
        whole = [f"{part}: {report.table(None)}" for part, report in found.items()]
        atomic_write_text(listed, "\n\n".join(whole) + "\n")
        if data.unusable == "refuse":
            tables = "\n".join(f"{part}: {report.table()}" for part, report in found.items())
            raise AsrError(
                f"{tables}\nAll are in {listed}. Mend them, or leave them out with "
                "data.unusable=exclude"
            )
        console.print(
            f"{settings.name}: {excluded} utterances left out, listed in {listed}", highlight=False
        )
        parts = {part: check.usable(parts[part], report) for part, report in reports.items()}
    for part, utterances in parts.items():
        if not utterances:
            raise AsrError(f"data.{part}: nothing is left to use; see {folder / 'unusable.txt'}")
    _say_conversions([*parts["train"], *parts["dev"]], settings, console)
    return parts["train"], parts["dev"], tokenizer, excluded


def _apart(parts: dict[str, list[Utterance]]) -> None:
    """Refuse recordings that are in two of train, dev and test, by whatever path."""
    seen: dict[str, str] = {}
    for name, utterances in parts.items():
        for u in utterances:
            other = seen.setdefault(os.path.realpath(u.audio_filepath), name)
            if other != name:
                raise AsrError(
                    f"{u.audio_filepath} is in data.{other} and in data.{name}: train, dev and "
                    "test must have no recording in common"
                )


def _check_tests(tests: dict[str, list[Utterance]], settings: Run) -> None:
    """A test set that cannot be read, or not be told from another, is refused before training."""
    names = [sources.describe(entry) for entry in tests]
    for entry, name in zip(tests, names, strict=True):
        if names.count(name) > 1:
            raise AsrError(f"data.test: {entry} and another entry are both called {name!r}")
    for entry, utterances in tests.items():
        for u in utterances:
            try:
                audio.load(u.audio_filepath, settings.frontend.sample_rate)
            except AsrError as error:
                raise AsrError(f"data.test, {entry}: {error}") from None


def _say_conversions(utterances: list[Utterance], settings: Run, console: Console) -> None:
    """Say once how many recordings are resampled or mixed to one channel."""
    rate = settings.frontend.sample_rate
    counts = Counter[str]()
    for u in utterances:
        info = soundfile.info(u.audio_filepath)
        if info.samplerate != rate:
            counts[f"resampled from {info.samplerate} to {rate} Hz"] += 1
        if info.channels > 1:
            counts[f"of {info.channels} channels mixed to one"] += 1
    for what, count in sorted(counts.items()):
        console.print(f"{settings.name}: {count} recordings {what}", highlight=False)


def _units(settings: Run, folder: Path, texts: list[str]) -> Tokenizer:
    if settings.tokenizer.kind == "characters":
        return CharacterTokenizer()
    path = Path(settings.tokenizer.file) if settings.tokenizer.file else folder / "units.model"
    # Only a run that is being resumed keeps its pieces: settings or texts may have changed since.
    if not settings.tokenizer.file and not resume_point(folder).exists():
        train_sentencepiece(texts, settings.tokenizer.size, path)
    return load_tokenizer_file(path)
