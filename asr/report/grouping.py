"""Which records are the same network with another seed, and what their figures are together."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from asr.report.schema import EvaluationRecord, RunRecord


@dataclass(frozen=True)
class Wer:
    """Word error rate of one network on one test set, fractions.

    One seed: `low` and `high` are its 95 % interval over utterances. Several: `wer` is the mean,
    and `low` and `high` the lowest and highest bound of their intervals, so that a difference
    which clears them clears the intervals of all seeds.
    """

    wer: float
    low: float
    high: float


@dataclass(frozen=True)
class NetworkSeeds:
    """One network, trained once or with several seeds."""

    label: str
    records: tuple[RunRecord, ...]

    @property
    def first(self) -> RunRecord:
        """One record, for what all seeds have in common."""
        return self.records[0]

    @property
    def nonzeros(self) -> float:
        """Non-zero parameters, the mean over seeds."""
        return mean([record.model.nonzeros for record in self.records])

    def evaluations(self, dataset: str) -> list[EvaluationRecord]:
        """Word errors of each seed on `dataset`; empty when none was tested on it."""
        return [r.evaluation[dataset] for r in self.records if dataset in r.evaluation]

    def wer(self, dataset: str) -> Wer | None:
        """The word error rate on `dataset`, None when not tested on it."""
        found = self.evaluations(dataset)
        if not found:
            return None
        return Wer(
            mean([e.wer for e in found]),
            min(e.wer_low for e in found),
            max(e.wer_high for e in found),
        )


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean of at least one value."""
    return sum(values) / len(values)


def label_without_seed(label: str, seed: int) -> str:
    """`GRU 128, 90 %, seed 2` and `GRU 128, 90 % s2` to `GRU 128, 90 %`, for that seed only."""
    return re.sub(rf"[\s,;]*\(?\b(seed[\s=]*|s){seed}\)?$", "", label) or label


def networks(records: Iterable[RunRecord]) -> list[NetworkSeeds]:
    """Records that differ in their seed alone, together; the order of `records` is kept.

    Two records of one label and one seed differ in something that the label does not say, so they
    are never averaged.
    """
    groups: dict[tuple[object, ...], list[RunRecord]] = {}
    for record in records:
        model, pruning = record.model, record.pruning
        label = label_without_seed(record.label, record.seed)
        kind = (model.cell, model.layers, model.hidden, model.tokenizer)
        key = (record.recipe, record.group, label, *kind, pruning and pruning.target_sparsity)
        groups.setdefault(key, []).append(record)
    result = []
    for members in groups.values():
        if len({record.seed for record in members}) == len(members) > 1:
            label = label_without_seed(members[0].label, members[0].seed)
            result.append(NetworkSeeds(label, tuple(members)))
        else:
            result += [NetworkSeeds(record.label, (record,)) for record in members]
    return result


def datasets(records: Iterable[RunRecord]) -> list[str]:
    """Names of all test sets, sorted."""
    return sorted({name for record in records for name in record.evaluation})
