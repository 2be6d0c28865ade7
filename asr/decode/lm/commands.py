"""What `asr lm train`, `convert` and `info` do; each returns what to print."""

import time
from collections.abc import Sequence
from pathlib import Path

from asr.decode.lm.arpa import read_arpa, write_arpa
from asr.decode.lm.build import build_model
from asr.decode.lm.file import write_lm
from asr.decode.lm.model import BOS, EOS, UNKNOWN, perplexity
from asr.decode.lm.open import is_binary, open_lm
from asr.decode.lm.train import TrainedNGrams, check, number_words, train_ngrams
from asr.errors import AsrError
from asr.files import check_writable
from asr.plain import read_numbers
from asr.text.normalise import NORMALISATION
from asr.text.read import read_sentences


def is_arpa(path: Path) -> bool:
    """Whether the name of a file to write asks for ARPA's format."""
    return path.name.endswith((".arpa", ".arpa.gz"))


def lm_train(
    texts: Sequence[Path],
    output: Path,
    order: int = 3,
    cutoffs: str = "",
    prune: float = 0.0,
    heldout: Path | None = None,
    min_count: int = 1,
    normalisation: str = NORMALISATION,
) -> str:
    """Train a model on texts and write it; see `train_ngrams`.

    The name of `output` gives its form: .arpa and .arpa.gz are ARPA, others are binary. `cutoffs`:
    minimum counts, such as "1,1,2", which is the meaning of an empty string too. `heldout`: a text
    whose perplexity is printed.
    """
    started = time.perf_counter()
    minimum = read_numbers("cutoffs", cutoffs or "1,1,2", int)
    if cutoffs and len(minimum) > order:
        raise AsrError(f"cutoffs={cutoffs}: at most one for each of {order} orders")
    if heldout is not None and not heldout.is_file():
        raise AsrError(f"{heldout}: no such file of held-out text")
    check_writable(output)
    # A mistake must not show only after all the work.
    check(order, tuple(minimum[:order]), prune)
    unseen = list(read_sentences([heldout], normalisation)) if heldout is not None else []
    if heldout is not None and not any(map(str.split, unseen)):
        raise AsrError(f"{heldout}: no words")
    text = number_words(read_sentences(texts, normalisation), min_count)
    training = train_ngrams(text, order, tuple(minimum[:order]), prune)
    model = build_model(training.ngrams)
    if is_arpa(output):
        write_arpa(output, training.ngrams)
    else:
        write_lm(output, model)
    lines = _describe_training(training)
    if heldout is not None:
        lines.append(f"{heldout}: {perplexity(model, unseen)}")
    lines.append(f"{output}: {_megabytes(output)}, {time.perf_counter() - started:.1f} s")
    return "\n".join(lines)


def _describe_training(training: TrainedNGrams) -> list[str]:
    words = len(training.ngrams.vocabulary) - 3
    lines = [f"{training.sentences} sentences, {training.words} words, {words} distinct"]
    for n, order in enumerate(training.ngrams.orders, 1):
        discounts = " ".join(f"{value:.3f}" for value in training.discounts[n - 1])
        kind = "fixed discounts, too little text" if n in training.fallbacks else "discounts"
        seen = training.seen[n - 1]
        kept = min(len(order.words), seen)  # <unk> is a 1-gram that need not be in the text
        lines.append(f"{n}-grams: {kept} of {seen} kept, {kind} {discounts}")
    return lines


def lm_convert(source: Path, output: Path) -> str:
    """Write a model in the form that the name of `output` asks for: ARPA or binary.

    Raises AsrError if ARPA is asked for from a binary file, which holds rounded weights only.
    """
    started = time.perf_counter()
    check_writable(output)
    if not is_arpa(output):
        write_lm(output, open_lm(source))
    else:
        if is_binary(source):
            raise AsrError(
                f"{source}: is binary; an ARPA file is made from another one, or by `asr lm train`"
            )
        write_arpa(output, read_arpa(source))
    return f"{output}: {_megabytes(output)}, {time.perf_counter() - started:.1f} s"


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


def _megabytes(path: Path) -> str:
    return f"{path.stat().st_size / 2**20:.1f} MiB"
