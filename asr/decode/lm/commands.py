"""What `asr lm train`, `convert` and `info` do; each returns what to print."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from asr.decode.lm import arpa, binary
from asr.decode.lm import build as automaton
from asr.decode.lm import file as compact
from asr.decode.lm.model import BOS, EOS, UNKNOWN, perplexity
from asr.decode.lm.open import open_lm
from asr.decode.lm.train import Training, read_text, train
from asr.errors import AsrError
from asr.text.read import read_sentences

Number = TypeVar("Number", int, float)


def is_arpa(path: Path) -> bool:
    """Whether a file of this name is written in ARPA's format."""
    return path.name.endswith((".arpa", ".arpa.gz"))


def lm_train(
    texts: Sequence[Path],
    output: Path,
    order: int = 3,
    cutoffs: str = "",
    prune: float = 0.0,
    heldout: Path | None = None,
    min_count: int = 1,
    normalisation: str = "en-v1",
    small: bool = False,
) -> str:
    """Train a model on texts and write it; see `ngram.train`.

    `cutoffs`: least counts, such as "1,1,2", which is what an empty string means. `small`: in the
    form of `asr.decode.lm.file`.
    """
    _refuse_small(output, small)
    started = time.perf_counter()
    least = _numbers("cutoffs", cutoffs or "1,1,2", int)
    if cutoffs and len(least) > order:
        raise AsrError(f"cutoffs={cutoffs}: at most one for each of {order} orders")
    if heldout is not None and not heldout.is_file():
        raise AsrError(f"{heldout}: there is no such file of held-out text")
    text = read_text(read_sentences(texts, normalisation), min_count)
    training = train(text, order, tuple(least[:order]), prune)
    model = automaton.build(training.ngrams)
    if is_arpa(output):
        arpa.write(output, training.ngrams)
    else:
        (compact if small else binary).write(output, model)
    lines = _describe_training(training)
    if heldout is not None:
        lines.append(f"{heldout}: {perplexity(model, read_sentences([heldout], normalisation))}")
    lines.append(f"{output}: {_megabytes(output)}, {time.perf_counter() - started:.1f} s")
    return "\n".join(lines)


def _describe_training(training: Training) -> list[str]:
    words = len(training.ngrams.vocabulary) - 3
    lines = [f"{training.sentences} sentences, {training.words} words, {words} different ones"]
    for n, order in enumerate(training.ngrams.orders, 1):
        discounts = " ".join(f"{value:.3f}" for value in training.discounts[n - 1])
        kind = "fixed discounts, too little text" if n in training.fallbacks else "discounts"
        seen = training.seen[n - 1]
        lines.append(f"{n}-grams: {len(order.words)} of {seen} kept, {kind} {discounts}")
    return lines


def lm_convert(source: Path, output: Path, small: bool = False) -> str:
    """ARPA to the binary form, by the name of `output`; or ARPA anew, packed or not.

    `small`: to the form of `asr.decode.lm.file`.
    """
    _refuse_small(output, small)
    started = time.perf_counter()
    if not is_arpa(output):
        (compact if small else binary).write(output, open_lm(source))
    else:
        with arpa.open_packed(source) as file:
            if file.read(len(binary.MAGIC)) in (binary.MAGIC, compact.MAGIC):
                raise AsrError(f"{source}: is binary; ARPA is made from ARPA, or by `asr lm train`")
        arpa.write(output, arpa.read(source))
    return f"{output}: {_megabytes(output)}, {time.perf_counter() - started:.1f} s"


def _refuse_small(output: Path, small: bool) -> None:
    if small and is_arpa(output):
        raise AsrError(f"{output}: --compact is a binary form; give a name that is not ARPA's")


def lm_info(path: Path) -> str:
    """Orders, size and vocabulary of a model, and how long it takes to open."""
    started = time.perf_counter()
    model = open_lm(path)
    seconds = time.perf_counter() - started
    spellings = model.spellings()
    counts = ", ".join(f"{count} {n}-grams" for n, count in enumerate(model.counts, 1))
    words = [i for i, spelling in enumerate(spellings) if spelling not in (BOS, EOS, UNKNOWN)]
    best = sorted(words, key=lambda i: -model.logs[i])[:8]
    return "\n".join(
        [
            f"{path}: {_megabytes(path)}, opened in {seconds:.2f} s",
            f"order {model.order}: {counts}",
            f"{len(words)} words, most frequent {' '.join(spellings[i] for i in best)}",
        ]
    )


def _numbers(name: str, text: str, kind: Callable[[str], Number]) -> list[Number]:
    try:
        return [kind(part) for part in text.split(",")]
    except ValueError:
        raise AsrError(f"{name}={text!r}: numbers with commas between them") from None


def _megabytes(path: Path) -> str:
    return f"{path.stat().st_size / 2**20:.1f} MiB"
