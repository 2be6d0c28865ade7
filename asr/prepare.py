"""What a training reads: utterances of train and dev, checked, apart from test; and the units."""

from dataclasses import replace
from pathlib import Path

from rich.console import Console

from asr.corpus import check, sources
from asr.corpus.manifest import Utterance
from asr.errors import AsrError
from asr.files import atomic_write_text
from asr.settings import Run
from asr.text import CharacterUnits, Units, load_units_file, normalise, train_sentencepiece


def prepare(
    settings: Run, folder: Path, console: Console
) -> tuple[list[Utterance], list[Utterance], Units, int]:
    """Train and dev utterances that can be used, the units, and how many were left out.

    What cannot be used (CTC cannot align it, empty, unknown symbols, unreadable, too long) is
    listed in `unusable.txt` of the run folder, and left out only by `data.unusable=exclude`.

    Raises:
        AsrError: for unusable utterances otherwise, for a recording in two of train, dev and
            test, and for an entry that is not there.
    """
    data = settings.data
    if not data.train or not data.dev:
        raise AsrError("data.train and data.dev must each name at least one manifest or folder")
    train_set = [u for entry in data.train for u in sources.resolve(entry, data)]
    dev_set = [u for entry in data.dev for u in sources.resolve(entry, data)]
    _apart(train_set, dev_set, settings)
    units = _units(settings, folder, [normalise(u.text) for u in train_set])
    model = replace(settings.model, outputs=units.size)
    reports = [
        check.check(
            utterances,
            units,
            settings.frontend,
            model,
            max_seconds=data.max_seconds if part == "train" else None,
            speed=max(settings.augment.speeds) if part == "train" else 1.0,
        )
        for part, utterances in (("train", train_set), ("dev", dev_set))
    ]
    excluded = sum(report.count for report in reports)
    if excluded:
        table = "\n\n".join(report.table() for report in reports if report.count)
        atomic_write_text(folder / "unusable.txt", table + "\n")
        if data.unusable == "refuse":
            for report in reports:
                report.raise_if_any("leave them out with data.unusable=exclude")
        console.print(
            f"{settings.name}: {excluded} utterances left out, listed in {folder / 'unusable.txt'}",
            highlight=False,
        )
        train_set = check.usable(train_set, reports[0])
        dev_set = check.usable(dev_set, reports[1])
    for part, utterances in (("data.train", train_set), ("data.dev", dev_set)):
        if not utterances:
            raise AsrError(f"{part}: no utterance is left to use; see {folder / 'unusable.txt'}")
    return train_set, dev_set, units, excluded


def _apart(train_set: list[Utterance], dev_set: list[Utterance], settings: Run) -> None:
    """Refuse recordings that are in two of train, dev and test."""
    seen = {u.audio_filepath: "data.train" for u in train_set}
    parts = [("data.dev", dev_set)]
    parts += [("data.test", sources.resolve(e, settings.data)) for e in settings.data.test]
    for name, utterances in parts:
        for u in utterances:
            other = seen.setdefault(u.audio_filepath, name)
            if other != name:
                raise AsrError(
                    f"{u.audio_filepath} is in {other} and in {name}: train, dev and test must "
                    "have no recording in common"
                )


def _units(settings: Run, folder: Path, texts: list[str]) -> Units:
    if settings.units.kind == "characters":
        return CharacterUnits()
    path = Path(settings.units.file) if settings.units.file else folder / "units.model"
    if not settings.units.file and not path.exists():
        train_sentencepiece(texts, settings.units.size, path)
    return load_units_file(path)
