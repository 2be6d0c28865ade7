"""Seconds of audio that a second of training takes in, beside a plain loop over `nn.GRU`.

    python recipes/benchmarks/training.py [--quick] [--allow-busy] [--again]

A step is forward, CTC, backward, clipping and AdamW, on one thread: the network of
`recipes/shipped/training.yaml` at several widths and batch sizes. The plain network has the same
convolutions and widths, `nn.GRU(bidirectional=True)` whose directions are summed, and
`nn.BatchNorm1d` between layers; padding goes through all of it, as is usual in such loops.
Both run in bfloat16 under autocast, or in float32, whichever is faster for each. The same network
whose masks are final, 3 of every 32 weights per row left, trains on sparse kernels in float32; its
steps include those of the pruner.

The second table is about feeding: how long a step waits for its batch when one worker process
decodes, augments and computes features while another trains. That needs two cores.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from lib.record import Display, Part
from lib.script import Script, finish, start
from lib.steps import LONGEST, SHORTEST, a_batch, flush_denormal, trainer_of
from torch import Tensor, nn

from asr.benchmark.timing import LoadMonitor
from asr.corpus.manifest import Utterance
from asr.features.settings import Frontend
from asr.model.dimensions import Model
from asr.model.torch_layers import ConvolutionLayer, valid_frames
from asr.model.torch_network import DeepSpeech
from asr.pruning import Bank, OneShot, Pruner, Rule
from asr.report.table import Column, Table
from asr.settings.data import DataSettings
from asr.settings.run import Run
from asr.settings.yaml import load
from asr.text.tokenizer import CharacterTokenizer
from asr.train.data import SpeechData
from asr.train.trainer import fast_precision

RECIPE = Path(__file__).parents[1] / "shipped" / "training.yaml"
WIDTHS, BATCHES = (128, 256, 384, 512), (60.0, 120.0)
TARGET = 1 - 3 / 32
"""Zeros of the pruned network."""
FED_STEPS = 30


class PlainNetwork(nn.Module):
    """The same convolutions, then torch's own bidirectional GRUs."""

    def __init__(self, dimensions: Model) -> None:
        super().__init__()
        self.dimensions = dimensions
        channels = [1, *dimensions.conv_channels]
        self.conv = nn.ModuleList(
            ConvolutionLayer(channels[i], dimensions, i) for i in range(len(channels) - 1)
        )
        widths = [dimensions.conv_features] + [dimensions.hidden] * (dimensions.layers - 1)
        self.norms = nn.ModuleList(nn.BatchNorm1d(n) for n in [*widths, dimensions.hidden])
        self.rnn = nn.ModuleList(
            nn.GRU(n, dimensions.hidden, batch_first=True, bidirectional=True) for n in widths
        )
        self.output = nn.Linear(dimensions.hidden, dimensions.outputs)

    def forward(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        x = features.transpose(1, 2).contiguous()[..., None]
        for layer, (_, stride) in zip(self.conv, self.dimensions.conv_strides, strict=True):
            lengths = (lengths + stride - 1) // stride
            x = layer(x, valid_frames(lengths, -(-x.shape[2] // stride)))
        x = x.permute(0, 2, 3, 1).flatten(2)
        for norm, layer in zip(self.norms, self.rnn, strict=False):
            both = layer(norm(x.transpose(1, 2)).transpose(1, 2))[0]
            x = sum(both.chunk(2, dim=-1))
        scores = self.output(self.norms[-1](x.transpose(1, 2)).transpose(1, 2))
        return scores.float().log_softmax(-1), lengths


def pruned(network: DeepSpeech) -> Pruner:
    """Prunes the network at once; its masks are final."""
    pruner = Pruner(network, Rule(OneShot(1, TARGET), ["rnn*"], Bank(32)))
    pruner.step()
    network.keep_zeros(pruner.masks())
    return pruner


def measure_width(script: Script, settings: Run, hidden: int, seconds: float) -> None:
    """Our step, the plain one and that of the pruned network, in both precisions, in turn."""
    dimensions = replace(settings.model, hidden=hidden, dropout=0.0)
    batch = a_batch(seconds, dimensions.mels)
    calls: dict[str, Callable[[], object]] = {}
    kinds: dict[str, str] = {}
    for precision in ("bf16", "float32"):
        for name, make in (("ours", DeepSpeech), ("plain", PlainNetwork), ("sparse", DeepSpeech)):
            torch.manual_seed(1)
            label = f"{name}, {precision}"
            network = make(dimensions).train()
            pruner = pruned(network) if name == "sparse" else None
            step = trainer_of(network, precision, settings.optimiser, pruner)
            calls[label] = partial(step, batch)
            kinds[label] = name
    measured = script.measure(calls, slot_seconds=0.5, kinds=kinds)
    audio = float(batch[1].sum()) / 100
    results = [
        {"name": name, "kind": kinds[name], "audio": audio, **timing.to_plain()}
        for name, timing in measured.timings.items()
    ]
    part = {"hidden": hidden, "batch_seconds": seconds, "threads": 1, "results": results}
    script.record.add(f"{hidden}, {seconds:g} s", part, measured.other_load)
    print(width_table([part]).text())


def recordings(folder: Path, seconds: float) -> list[Utterance]:
    """Files of noise whose texts fit: what a loader has to read, without a corpus."""
    generator = np.random.default_rng(5)
    utterances: list[Utterance] = []
    total = 0.0
    while total < seconds:
        duration = float(generator.uniform(SHORTEST, LONGEST))
        path = folder / f"{len(utterances)}.flac"
        samples = 0.1 * generator.standard_normal(int(16000 * duration))
        soundfile.write(path, samples, 16000)
        text = "A" + " BAD CAFE" * int(duration)
        utterances.append(Utterance(path.stem, str(path), duration, text, str(len(utterances))))
        total += duration
    return utterances


class _OneRank:
    """As much of a trainer as a loader needs."""

    global_rank, world_size, current_epoch = 0, 1, 0


def measure_feeding(script: Script, settings: Run) -> None:
    """Seconds that steps wait for batches, for the reference network and one worker."""
    torch.manual_seed(1)
    step = trainer_of(DeepSpeech(settings.model).train(), fast_precision(), settings.optimiser)
    monitor = LoadMonitor()
    seconds = 20.0 if script.quick else settings.data.batch_limit
    data_settings = replace(DataSettings(), batch_seconds=seconds, workers=1)
    steps = 3 if script.quick else FED_STEPS
    with tempfile.TemporaryDirectory() as folder:
        utterances = recordings(Path(folder), (steps + 4) * seconds)
        tokenizer = CharacterTokenizer()
        frontend: Frontend = settings.frontend
        augment = replace(settings.augment, noise_folder="")
        data = SpeechData(
            utterances, utterances[:1], tokenizer, frontend, augment, data_settings, 1
        )
        data.trainer = _OneRank()  # type: ignore[assignment]
        waits, times = [], []
        loader = iter(data.train_dataloader())
        for _ in range(steps + 1):
            began = time.perf_counter()
            batch = next(loader)
            waits.append(time.perf_counter() - began)
            tensors = [batch.features, batch.feature_lengths, batch.targets, batch.target_lengths]
            began = time.perf_counter()
            step(tensors)
            times.append(time.perf_counter() - began)
        alone = time.perf_counter()
        data.largest_batch()
        alone = time.perf_counter() - alone
    waited = sum(waits[1:]) / (sum(waits[1:]) + sum(times[1:]))  # the first one starts the worker
    del loader  # its process has to end to be counted as ours
    result = {"name": "fed", "waited": waited, "step": statistics.median(times[1:]), "batch": alone}
    part = {"hidden": settings.model.hidden, "threads": 1, "results": [result]}
    script.record.add("feeding", part, monitor.other_load())
    print(feeding_table([part]).text())


def best(part: Part, kind: str) -> dict[str, Any]:
    """The faster of the two precisions."""
    return min((r for r in part["results"] if r["kind"] == kind), key=lambda r: r["seconds"])


def width_table(parts: Sequence[Part]) -> Table:
    """Seconds of audio a second: plain, ours and pruned, each with its ratio to the one before."""
    rows = []
    for part in parts:
        if "batch_seconds" in part:
            found = [best(part, kind) for kind in ("plain", "ours", "sparse")]
            speeds = [f"{r['audio'] / r['seconds']:.0f} ({r['name'].split()[-1]})" for r in found]
            plain, ours, sparse = (r["seconds"] for r in found)
            row = (speeds[0], speeds[1], f"{plain / ours:.2f}x", speeds[2], f"{ours / sparse:.2f}x")
            rows.append((f"3 x {part['hidden']}", f"{part['batch_seconds']:g}", *row))
    names = ("Batch, s", "nn.GRU", "Ours", "Ratio", "90.6 % zeros, final", "Ratio to ours")
    return Table("", (Column("GRU", numeric=False), *map(Column, names)), tuple(rows))


def feeding_table(parts: Sequence[Part]) -> Table:
    """How long steps wait, beside how long they and a batch take."""
    rows = [
        (
            f"3 x {part['hidden']}",
            f"{100 * result['waited']:.1f}",
            f"{result['step']:.2f}",
            f"{result['batch']:.2f}",
        )
        for part in parts
        for result in part["results"]
        if result["name"] == "fed"
    ]
    names = ("Waiting, % of the time", "Training step, s", "A batch by one process, s")
    return Table(
        "Waiting for data, one worker process",
        (Column("GRU", numeric=False), *map(Column, names)),
        tuple(rows),
    )


def display(parts: Sequence[Part]) -> Display:
    """Both tables."""
    return Display(
        width_table(parts),
        (feeding_table(parts),),
        (
            "Seconds of audio that one second of one thread trains on (forward, CTC, backward, "
            "clipping, AdamW), in the faster of bfloat16 and float32.",
            "The pruned network keeps 3 of every 32 weights per row; its recurrent layers compute "
            "in float32, the rest in the precision named, and a step includes that of the pruner.",
        ),
    )


@flush_denormal()
def main(arguments: Sequence[str]) -> int:
    script = start("training", __doc__ or "", display, arguments)
    torch.set_num_threads(1)
    settings = load(Run, RECIPE, ["data.spoken.text=[]"])
    small = replace(settings, model=replace(settings.model, hidden=16))
    widths, batches = ((16,), (20.0,)) if script.quick else (WIDTHS, BATCHES)
    for hidden in widths:
        for seconds in batches:
            if not script.done(f"{hidden}, {seconds:g} s"):
                measure_width(script, settings, hidden, seconds)
    if not script.done("feeding"):
        measure_feeding(script, small if script.quick else settings)
    return 0


if __name__ == "__main__":
    finish(main)
