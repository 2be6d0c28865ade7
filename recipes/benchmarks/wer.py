"""Word error rate of one trained network, run in every way that rounds differently.

    python recipes/benchmarks/wer.py [--model FILE] [--set ENTRY ...] [--root FOLDER] [--quick]

By default the committed sparse network on the test set of the built-in spoken corpus (small
vocabulary); or your model on any sets (manifests and folders as in `data.test`). It is run by torch
in fp32, torch's dynamic int8, the native backend with `exact`, without it on every instruction set
of this processor (held to it by ASR_LEVEL), and from a file packed with int8 values. Each is
compared with torch in fp32: the difference of the error rate with a paired interval, texts and
words that differ, and how far the likeliest token of the output frames that changed had led, which
says whether rounding is the cause. Nothing is timed.
"""

import argparse
import dataclasses
import os
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from lib.script import finish, named, start
from lib.tables import wer_display
from numpy.typing import NDArray

from asr.benchmark.dense import torch_int8
from asr.corpus import sources
from asr.corpus.manifest import Utterance
from asr.corpus.spoken.settings import Spoken
from asr.evaluate.compare import compare
from asr.evaluate.dataset import evaluate
from asr.evaluate.tune import run_set
from asr.evaluate.wer import Row, load_jiwer
from asr.model.backend import Backend, TorchBackend, open_backend
from asr.model.file import load_model
from asr.model.pack import pack
from asr.settings.data import DataSettings
from asr.sparse.kernels import levels
from asr.transcribe.recogniser import Recogniser

TRAINED = Path(__file__).parents[2] / "tests" / "data" / "spoken.asr"


def backends(model: Path, folder: Path) -> dict[str, Callable[[], Backend]]:
    """Every way to run the network; the others are compared with the first."""

    def quantised() -> Backend:
        loaded = load_model(model)
        small = torch_int8(loaded.model, loaded.metadata.model.cell)
        return TorchBackend(dataclasses.replace(loaded, model=small))

    def int8_file() -> Backend:
        pack(model, folder / "int8.asr", values="int8")
        return open_backend(folder / "int8.asr", backend="native")

    def held_to(level: str) -> Backend:
        before = os.environ.get("ASR_LEVEL")
        _set_level(level)
        try:
            return open_backend(model, backend="native")
        finally:
            _set_level(before)

    return {
        "torch fp32": lambda: TorchBackend(load_model(model)),
        "torch int8": quantised,
        "sparse, exact": lambda: open_backend(model, backend="native", exact=True),
        **{f"sparse, {name}": partial(held_to, name) for name in reversed(levels())},
        "sparse, file of int8 values": int8_file,
    }


def _set_level(name: str | None) -> None:
    """The instruction set of networks that are opened from now on; None: the best."""
    if name is None:
        os.environ.pop("ASR_LEVEL", None)
    else:
        os.environ["ASR_LEVEL"] = name


@dataclasses.dataclass
class Frames:
    """The likeliest token of every output frame, and how far ahead of the next one it is."""

    tokens: NDArray[np.int64]
    margins: NDArray[np.float32]
    """Differences of log-probabilities."""

    @classmethod
    def of(cls, recogniser: Recogniser, utterances: Sequence[Utterance]) -> "Frames":
        """All frames of a set, utterance after utterance."""
        rows = np.concatenate(run_set(recogniser, utterances))
        top = np.partition(rows, -2, axis=1)
        return cls(rows.argmax(axis=1), top[:, -1] - top[:, -2])

    def compare(self, other: "Frames") -> dict[str, float | int | None]:
        """Frames of `other` with another token, and median margins of those and of all."""
        changed = self.tokens != other.tokens
        return {
            "frames": len(changed),
            "frames_changed": int(changed.sum()),
            "margin": float(np.median(self.margins)),
            "margin_changed": float(np.median(self.margins[changed])) if changed.any() else None,
        }


def words_changed(expected: Sequence[str], texts: Sequence[str]) -> int:
    """Words to substitute, delete or insert to turn one list of texts into the other."""
    pairs = [(a, b) for a, b in zip(expected, texts, strict=True) if a and b]
    found = load_jiwer().process_words([a for a, _ in pairs], [b for _, b in pairs])
    lost = sum(len((a or b).split()) for a, b in zip(expected, texts, strict=True) if not (a and b))
    return int(found.substitutions + found.deletions + found.insertions) + lost


def main(arguments: Sequence[str]) -> int:
    def add(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--model", type=Path, default=TRAINED)
        parser.add_argument("--set", nargs="*", default=["spoken:test"])
        parser.add_argument("--root", default="", help="folder of the sets")

    script = start("wer", __doc__ or "", wer_display, arguments, add, timed=False)
    ((name_of_model, model),) = named([script.options.model]).items()
    data = DataSettings(
        root=script.options.root, spoken=Spoken(test_hours=0.01 if script.quick else 0.3)
    )
    for entry in script.options.set:
        key = f"{name_of_model}, {sources.describe(entry)}"
        if script.done(key):
            continue
        utterances = sources.resolve(entry, data.root, data.spoken)
        results, absent = [], {}
        expected: list[str] = []
        torch_rows: list[Row] = []
        first: Frames | None = None
        print(f"\n{key}")
        with tempfile.TemporaryDirectory() as folder:
            for name, make in backends(model, Path(folder)).items():
                try:
                    backend = make()
                except NotImplementedError as error:
                    absent[name] = str(error)
                    continue
                recogniser = Recogniser(backend, backend.tokenizer)
                score, rows, _ = evaluate(recogniser, utterances)
                texts = [row.hypothesis for row in rows]
                torch_rows = torch_rows or rows
                paired = compare(torch_rows, rows)
                frames = Frames.of(recogniser, utterances)
                expected, first = expected or texts, first or frames
                different = sum(a != b for a, b in zip(texts, expected, strict=True))
                changes = {
                    "different": different,
                    "words": sum(len(text.split()) for text in expected),
                    "words_changed": words_changed(expected, texts),
                    "difference": paired.difference,
                    "difference_low": paired.low,
                    "difference_high": paired.high,
                    **first.compare(frames),
                }
                kind = "dense" if name.startswith("torch") else "sparse"
                row = {"name": name, "kind": kind, **score.to_plain(), **changes}
                results.append({**row, "backend": backend.describe()})
                ratio = score.wer / results[0]["wer"] if results[0]["wer"] else 1.0
                print(f"{name}: {score}, {ratio:.3f} of torch fp32's, {different} other texts")
        part = {"model": model.name, "set": sources.describe(entry), "results": results}
        script.record.add(key, {**part, "absent": absent}, None)
    return 0


if __name__ == "__main__":
    finish(main)
