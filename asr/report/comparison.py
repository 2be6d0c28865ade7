"""Is a sparse network better than a dense one of equal non-zeros, by more than chance?"""

from collections.abc import Sequence
from dataclasses import dataclass

from asr.report.grouping import NetworkSeeds, Wer, datasets, mean, networks
from asr.report.schema import RunRecord

TOLERANCE = 0.05
"""Largest difference in non-zeros, as a fraction of the sparse network's, that counts as equal."""


@dataclass(frozen=True)
class EqualSizeComparison:
    """A sparse network against the dense one nearest to its non-zeros, on one test set."""

    dataset: str
    sparse: str
    dense: str
    nonzeros_sparse: int
    nonzeros_dense: int
    wer_sparse: Wer
    wer_dense: Wer

    @property
    def difference(self) -> float:
        """WER of the sparse network minus that of the dense one; below 0 sparse is better."""
        return self.wer_sparse.wer - self.wer_dense.wer

    @property
    def clear(self) -> bool:
        """Whether the two 95 % intervals do not overlap."""
        sparse, dense = self.wer_sparse, self.wer_dense
        return sparse.high < dense.low or dense.high < sparse.low

    def __str__(self) -> str:
        points = 100 * abs(self.difference)
        if round(points, 1) == 0:
            verdict = "no difference"
        else:
            direction = "lower" if self.difference < 0 else "higher"
            verdict = f"{points:.1f} points {direction}"
        clear = (
            "the intervals do not overlap"
            if self.clear
            else "the intervals overlap, so this test does not distinguish the two"
        )
        return (
            f"{self.dataset}: {self.sparse} ({self.nonzeros_sparse:,} non-zeros) has a WER of "
            f"{percent(self.wer_sparse)}, {self.dense} ({self.nonzeros_dense:,}) of "
            f"{percent(self.wer_dense)}: {verdict}; {clear}."
        )


def percent(wer: Wer) -> str:
    """`18.5 % (16.9-20.1)`."""
    return f"{100 * wer.wer:.1f} % ({100 * wer.low:.1f}-{100 * wer.high:.1f})"


def comparison(records: Sequence[RunRecord]) -> list[EqualSizeComparison]:
    """Every sparse network that has a dense one of the same cell and tokenizer within `TOLERANCE`.

    Both must have been tested on the same data in the same way. Of several dense networks the
    nearest in non-zeros is taken, of equally near ones (one distilled, say) the best.
    """
    all_networks = networks(records)
    dense = [network for network in all_networks if network.first.pruning is None]
    pairs = []
    for dataset in datasets(records):
        for sparse in all_networks:
            if sparse.first.pruning is None or not sparse.evaluations(dataset):
                continue
            partners = [other for other in dense if _comparable(sparse, other, dataset)]
            if partners:
                pairs.append(_compare(sparse, _nearest(sparse, partners, dataset), dataset))
    return pairs


def _nearest(sparse: NetworkSeeds, partners: Sequence[NetworkSeeds], dataset: str) -> NetworkSeeds:
    def rank(other: NetworkSeeds) -> tuple[float, float]:
        return abs(other.nonzeros - sparse.nonzeros), mean(
            [test.wer for test in other.evaluations(dataset)]
        )

    return min(partners, key=rank)


def _comparable(sparse: NetworkSeeds, dense: NetworkSeeds, dataset: str) -> bool:
    one, other = sparse.first, dense.first
    if (one.model.cell, one.model.tokenizer) != (other.model.cell, other.model.tokenizer):
        return False
    if abs(dense.nonzeros - sparse.nonzeros) > TOLERANCE * sparse.nonzeros:
        return False
    tests = [*sparse.evaluations(dataset), *dense.evaluations(dataset)]
    return bool(dense.evaluations(dataset)) and len({test.conditions for test in tests}) == 1


def _compare(sparse: NetworkSeeds, dense: NetworkSeeds, dataset: str) -> EqualSizeComparison:
    wer_sparse, wer_dense = sparse.wer(dataset), dense.wer(dataset)
    assert wer_sparse is not None
    assert wer_dense is not None
    nonzeros = round(sparse.nonzeros), round(dense.nonzeros)
    return EqualSizeComparison(dataset, sparse.label, dense.label, *nonzeros, wer_sparse, wer_dense)
