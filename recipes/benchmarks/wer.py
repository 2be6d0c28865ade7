"""Word error rate beside speed: one trained network, run in every way that rounds differently.

    python recipes/benchmarks/wer.py [--model FILE] [--set ENTRY ...] [--root FOLDER] [--quick]

The committed sparse network on the test set of the built-in spoken corpus (small grammar), or a
model of one's own on any sets (manifests, folders as in `data.test`). torch in fp32, torch's
dynamic int8, our engine exact, as it is, and from a file packed with int8 values. Counted are also
the utterances whose text is not that of torch in fp32. Nothing is timed.
"""

import argparse
import dataclasses
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from asr.benchmark.dense import torch_int8
from asr.benchmark.script import finish, start
from asr.checkpoint import load_model, pack
from asr.corpus import sources
from asr.evaluate import evaluate_model
from asr.hearing import Engine, NativeEngine, TorchEngine
from asr.settings import Data, Spoken

TRAINED = Path(__file__).parents[2] / "tests" / "data" / "spoken.asr"


def engines(model: Path, folder: Path) -> dict[str, Callable[[], Engine]]:
    """Every way to run the network; the first is what the others are compared with."""

    def quantised() -> Engine:
        loaded = load_model(model)
        small = torch_int8(loaded.model, loaded.metadata.model.cell)
        return TorchEngine(dataclasses.replace(loaded, model=small))

    def int8_file() -> Engine:
        pack(model, folder / "int8.asr", values="int8")
        return NativeEngine(folder / "int8.asr")

    return {
        "torch fp32": lambda: TorchEngine(load_model(model)),
        "torch int8": quantised,
        "sparse, exact": lambda: NativeEngine(model, exact=True),
        "sparse": lambda: NativeEngine(model),
        "sparse, file of int8 values": int8_file,
    }


def main(arguments: Sequence[str]) -> int:
    def add(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--model", type=Path, default=TRAINED)
        parser.add_argument("--set", nargs="*", default=["spoken:test"])
        parser.add_argument("--root", default="", help="folder that the sets lie in")

    script = start("wer", __doc__ or "", arguments, add, timed=False)
    model: Path = script.options.model
    data = Data(root=script.options.root, spoken=Spoken(test_hours=0.01 if script.quick else 0.3))
    for entry in script.options.set:
        key = f"{model.name}, {sources.describe(entry)}"
        if script.done(key):
            continue
        utterances = sources.resolve(entry, data)
        results, absent, wanted = [], {}, None
        print(f"\n{key}")
        with tempfile.TemporaryDirectory() as folder:
            for name, make in engines(model, Path(folder)).items():
                try:
                    engine = make()
                except NotImplementedError as error:
                    absent[name] = str(error)
                    continue
                score, rows, _ = evaluate_model(engine, utterances, data)
                texts = [row.hypothesis for row in rows]
                wanted = wanted or texts
                different = sum(a != b for a, b in zip(texts, wanted, strict=True))
                kind = "dense" if name.startswith("torch") else "sparse"
                row = {"name": name, "kind": kind, **score.to_plain(), "different": different}
                results.append({**row, "engine": engine.describe()})
                print(f"  {name:<28}{score}, {different} texts differ from torch fp32's")
        part = {"model": model.name, "set": sources.describe(entry), "results": results}
        script.book.add(key, {**part, "absent": absent}, None)
    return 0


if __name__ == "__main__":
    finish(main)
