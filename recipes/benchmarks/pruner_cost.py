"""What pruning costs a training: the time of the pruner beside a training step, and its memory.

    python recipes/benchmarks/pruner_cost.py [--quick] [--threads 1] [--steps 10] [-o RECORD]

Three bidirectional GRU layers of 512 units, batches of 16 utterances of 10 s (250 frames of 40 ms).
A training step is forward, backward, clipping and AdamW. The time of the pruner is that of
`mask_gradients()` and `step()`, at plain steps and at updates of the masks. The ratio is the time
of the pruner in 100 steps, one of which is an update, over that of 100 median training steps; in
brackets with the fastest and the slowest times of the pruner. It is measured halfway through a
schedule towards 0.9. `Memory` is what the pruner holds between steps, as a fraction of the bytes of
the weights that it prunes; the last column is the additional memory during an update.

On an idle machine of 2 cores (AMD EPYC, torch 2.14, 1 thread, float32) the pruner took 0.18 to
0.22 % of a step of 3.4 s, whatever the rule; RESULTS.md has the table.
"""

import argparse
import ctypes
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from lib.steps import flush_denormal
from torch import Tensor, nn

from asr import environment
from asr.pruning import Bank, Block, Cubic, Pruner, Rule, ThresholdRamp, find
from asr.pruning.factors import Factors
from asr.report.measurements import DisplayColumn, table_of, write_measurement
from asr.train.record import command

LIMIT = 0.01
"""Largest fraction of the training that the pruner may take."""
PRUNED = ["rnn*"]
PAPERS_FREQUENCY = 100
FREQUENCY, STEPS = 4, 160
"""Updates are more frequent here than in a training, so that enough of them are timed."""


@dataclass(frozen=True)
class Size:
    """The network and its batch."""

    hidden: int = 512
    layers: int = 3
    batch: int = 16
    frames: int = 250


class Network(nn.Module):
    """Bidirectional GRU and a linear layer to characters."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.rnn = nn.GRU(
            size.hidden, size.hidden, size.layers, batch_first=True, bidirectional=True
        )
        self.output = nn.Linear(2 * size.hidden, 29)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.rnn(x)[0]).log_softmax(-1)


@dataclass(frozen=True)
class Times:
    """Seconds of the pruner at plain steps and at updates."""

    plain: list[float]
    update: list[float]

    def per_step(self, pick: Callable[[list[float]], float]) -> float:
        """Mean seconds of the pruner per step if one in PAPERS_FREQUENCY is an update."""
        rest = PAPERS_FREQUENCY - 1
        return (rest * pick(self.plain) + pick(self.update)) / PAPERS_FREQUENCY


def rules(model: nn.Module) -> dict[str, Rule]:
    """Each kind of pruning that is measured; its target sparsity is 0.9."""
    ramp = ThresholdRamp(start=0, ramp=STEPS // 2, end=STEPS + 1, frequency=FREQUENCY)
    cubic = Cubic(start=0, end=STEPS, frequency=FREQUENCY, target=0.9)
    # New GRU weights are uniform, so the 0.9 quantile of their size is 0.9 of the largest.
    q = {n: 0.9 * float(w.detach().abs().max()) for n, w in find(model, PRUNED).items()}
    return {
        "ramp with q": Rule(ramp, thresholds=q),
        "ramp to a target": Rule(replace(ramp, target=0.9), PRUNED),
        "cubic": Rule(cubic, PRUNED),
        "cubic, by group": Rule(cubic, PRUNED, scope="group"),
        "cubic, global": Rule(cubic, PRUNED, scope="global"),
        "cubic, blocks of 16x1": Rule(cubic, PRUNED, Block(16, 1)),
        "cubic, banks of 32": Rule(cubic, PRUNED, Bank(32)),
    }


def training_steps(
    model: nn.Module, optimiser: torch.optim.Optimizer, size: Size, count: int
) -> list[float]:
    """Seconds of each of `count` training steps, after one to warm up."""
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(size.batch, size.frames, size.hidden, generator=generator)
    tokens = torch.randint(1, 29, (size.batch, size.frames // 5), generator=generator)
    lengths = [torch.full((size.batch,), n) for n in (size.frames, tokens.shape[1])]
    seconds = []
    for _ in range(1 + count):
        started = time.perf_counter()
        optimiser.zero_grad()
        log_probs = model(features).transpose(0, 1)
        nn.functional.ctc_loss(log_probs, tokens, *lengths).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimiser.step()
        seconds.append(time.perf_counter() - started)
    return seconds[1:]


def pruner_steps(pruner: Pruner, optimiser: torch.optim.Optimizer, rule: Rule) -> Times:
    """Seconds of the steps of the pruner, from halfway to three quarters of the schedule."""
    times = Times([], [])
    for step in range(1, 3 * STEPS // 4 + 1):
        started = time.perf_counter()
        pruner.mask_gradients()
        pruner.step(optimiser)
        seconds = time.perf_counter() - started
        if step > STEPS // 2:
            (times.update if rule.schedule.is_update(step) else times.plain).append(seconds)
    return times


def state_bytes(pruner: Pruner) -> int:
    """Bytes of all tensors that the pruner holds, without model and optimiser."""

    def tensors(value: object) -> Iterator[Tensor]:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, Factors):
            yield from tensors(vars(value))
        elif isinstance(value, dict):
            for item in value.values():
                yield from tensors(item)

    held = {k: v for k, v in vars(pruner).items() if k not in ("model", "optimiser")}
    return sum(t.numel() * t.element_size() for t in tensors(held))


def update_mib(pruner: Pruner, optimiser: torch.optim.Optimizer, rule: Rule) -> float | None:
    """Additional memory that the next update needs; None if the system cannot measure it.

    That is the peak of the resident memory during the update, less what is resident before it once
    the allocator has returned its free memory.
    """
    while not rule.schedule.is_update(pruner.steps + 1):
        pruner.step(optimiser)
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak to what is resident now
        before = resident_mib("VmRSS")
        pruner.step(optimiser)
        return resident_mib("VmHWM") - before
    except OSError:
        return None


def resident_mib(which: str) -> float:
    """Resident memory now (VmRSS), or its peak (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(which)) / 1024


COLUMNS = [
    DisplayColumn("Rule", "rule"),
    DisplayColumn("Plain step, ms", "plain_ms", ".2f"),
    DisplayColumn("Update, ms", "update_ms", ".0f"),
    DisplayColumn("Of the training, %", "percent", "figure"),
    DisplayColumn("Memory, of the weights", "kept", ".2f"),
    DisplayColumn("More memory in an update, MiB", "update_mib", ".0f"),
]


def measure(
    model: nn.Module, optimiser: torch.optim.Optimizer, median: float
) -> tuple[list[dict[str, Any]], list[float]]:
    """A row for each rule, and the time of the pruner over a training step of `median` seconds."""
    fresh = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    weights = sum(weight.numel() for weight in find(model, PRUNED).values())
    rows, ratios = [], []
    for name, rule in rules(model).items():
        model.load_state_dict(fresh)
        pruner = Pruner(model, rule)
        times = pruner_steps(pruner, optimiser, rule)
        low, middle, high = (
            times.per_step(pick) / median for pick in (min, statistics.median, max)
        )
        ratios.append(middle)
        rows.append(
            {
                "rule": name,
                "plain_ms": 1e3 * statistics.median(times.plain),
                "update_ms": 1e3 * statistics.median(times.update),
                "percent": f"{100 * middle:.2f} ({100 * low:.2f}-{100 * high:.2f})",
                "update_mib": update_mib(pruner, optimiser, rule),
                "kept": state_bytes(pruner) / (4 * weights),
            }
        )
    return rows, ratios


@flush_denormal()
def main(words: list[str] | None = None) -> int:
    """Measure and print a table; status 1 if a rule takes more than LIMIT of the training."""
    parser = argparse.ArgumentParser(description="What the pruner costs a training.")
    parser.add_argument("--quick", action="store_true", help="a small network, in seconds")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=10, help="training steps that are timed")
    parser.add_argument("-o", "--output", type=Path, help="the record, .json")
    options = parser.parse_args(words)
    size = Size(hidden=48, layers=2, batch=4, frames=60) if options.quick else Size()
    torch.set_num_threads(options.threads)
    torch.manual_seed(1)
    model = Network(size)
    optimiser = torch.optim.AdamW(model.parameters(), 1e-3)
    weights = sum(weight.numel() for weight in find(model, PRUNED).values())
    steps = training_steps(model, optimiser, size, options.steps)
    median = statistics.median(steps)
    notes = [
        f"{size.layers} x {size.hidden}, {weights:,} prunable weights, batches of {size.batch} x "
        f"{size.frames} frames; a training step takes {median:.2f} s (median of {len(steps)}, "
        f"{min(steps):.2f} to {max(steps):.2f}).",
        "Time of the pruner in 100 steps, one of them an update of the masks, over that of 100 "
        "training steps; in brackets with its fastest and its slowest steps.",
    ]
    rows, ratios = measure(model, optimiser, median)
    print(f"{environment.threads_line(options.threads)}, torch {torch.__version__}")
    print("\n".join([*notes, table_of(COLUMNS, rows).text()]))
    print(f"at most {max(ratios):.2%} of the training, {LIMIT:.0%} allowed")
    if options.output:
        made = (options.output, "pruner_cost", "pruner_cost", command(), COLUMNS, rows, notes)
        write_measurement(*made, threads=options.threads)
    return int(max(ratios) > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
