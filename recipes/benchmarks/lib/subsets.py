"""The test sets that recognisers are compared on, and their subsets by the age of the speakers."""

import csv
from collections.abc import Sequence
from pathlib import Path

from asr.corpus.manifest import Utterance
from asr.errors import AsrError
from lib.recogniser_record import Sets, Subset

DEV = ("dev-clean", "dev-cv", "dev-so762")
TEST = ("test-clean", "test-other", "test-cv", "test-so762", "test-digits")
BY_AGE = ("test-so762",)
"""Sets that are split by age by default."""
CHILD_BELOW = 13


def split_sets(test: Sequence[str], by_age: Sequence[str] | None) -> list[str]:
    """Sets to split by age; None: those of BY_AGE. Raises AsrError for one not in `test`."""
    if by_age is None:
        return [name for name in BY_AGE if name in test]
    if unknown := sorted(set(by_age) - set(test)):
        raise AsrError(f"--by-age: not among the sets of --test: {', '.join(unknown)}")
    return list(by_age)


def subsets(data: Path, sets: Sets, by_age: Sequence[str]) -> list[Subset]:
    """Each set, followed by its adults and its children if it is in `by_age`.

    Ages are read from `utterances.tsv` in the folder `data`. Raises AsrError if an age is missing,
    or if there are no adults or no children.
    """
    found = []
    for name, utterances in sets.items():
        found.append(Subset(name, name, tuple(range(len(utterances)))))
        if name in by_age:
            ages = read_ages(data / "utterances.tsv", name)
            for who in ("adults", "children"):
                chosen = [
                    i
                    for i, utterance in enumerate(utterances)
                    if (age(ages, utterance, name) < CHILD_BELOW) == (who == "children")
                ]
                if not chosen:
                    raise AsrError(
                        f"{name}: no utterances of {who}; leave it out of --by-age, or raise "
                        "--limit"
                    )
                found.append(Subset(f"{name} {who}", name, tuple(chosen)))
    return found


def read_ages(table: Path, subset: str) -> dict[str, str]:
    """Ages by utterance, as written in the table. Raises AsrError if they cannot be read."""
    try:
        with table.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
            return {row["utterance"]: row["age"] for row in rows if row["subset"] == subset}
    except OSError as error:
        raise AsrError(
            f"{table}: cannot be read ({error.strerror}); --by-age {subset} needs the ages in it. "
            "`--by-age` with nothing after it splits no set"
        ) from None
    except KeyError as error:
        raise AsrError(f"{table}: has no column {error}; needs subset, utterance, age") from None


def age(ages: dict[str, str], utterance: Utterance, subset: str) -> float:
    """Age of the speaker in years."""
    try:
        return float(ages[utterance.id])
    except (KeyError, ValueError):
        raise AsrError(
            f"{subset}: the age of the speaker of {utterance.id} is not in utterances.tsv; leave "
            "the set out of --by-age"
        ) from None
