"""Prunes `nn.GRU` in a plain torch loop, then writes a file in which zeros take no space.

    python recipes/examples/prune_gru.py [steps]

The network predicts the next value of a noisy sine wave of unknown period. The paper's ramp prunes
its recurrent weights while it trains, with slopes that are corrected to end at nine tenths zeros.
`asr.sparse` then writes the network, and the network read from the file computes the same. Only the
lines with `pruner` are about pruning.
"""

import sys
import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn

from asr import sparse
from asr.pruning import Pruner, Rule, ThresholdRamp


class Predictor(nn.Module):
    """A GRU and a linear layer: (batch, time, 1) -> the next value at each time."""

    def __init__(self, hidden: int = 64) -> None:
        super().__init__()
        self.rnn = nn.GRU(1, hidden, batch_first=True)
        self.output = nn.Linear(hidden, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.rnn(x)[0])


def waves(generator: torch.Generator, batch: int = 32, length: int = 41) -> Tensor:
    """Sine waves of random phase and a period from 8 to 24 steps, with noise: (batch, time, 1)."""
    phase, period = torch.rand(2, batch, 1, generator=generator)
    angle = torch.arange(length) / (8 + 16 * period) + phase
    noise = 0.02 * torch.randn(batch, length, generator=generator)
    return (torch.sin(2 * torch.pi * angle) + noise)[..., None]


@torch.no_grad()
def error(model: nn.Module) -> float:
    """Mean squared error on waves that are not in training, after the first ten values."""
    unseen = waves(torch.Generator().manual_seed(999), batch=256)
    return float((model(unseen[:, :-1]) - unseen[:, 1:])[:, 10:].square().mean())


def train(model: nn.Module, steps: int, pruner: Pruner | None = None) -> None:
    """An ordinary loop; with a pruner it has two more calls."""
    generator = torch.Generator().manual_seed(1)
    optimiser = torch.optim.AdamW(model.parameters(), 1e-2)
    for _ in range(steps):
        batch = waves(generator)
        (model(batch[:, :-1]) - batch[:, 1:]).square().mean().backward()
        if pruner:
            pruner.mask_gradients()  # before clipping: pruned weights have no part in the norm
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        if pruner:
            pruner.step(optimiser)  # once for each step of the optimiser
        optimiser.zero_grad()


def main(steps: int = 400, folder: Path | None = None) -> dict[str, float]:
    """Train a dense and a pruned network, write the pruned one and read it back; the figures."""
    torch.manual_seed(1)
    dense = Predictor()
    train(dense, steps)

    torch.manual_seed(1)
    model = Predictor()
    ramp = ThresholdRamp.from_fractions(steps, start=0.2, ramp=0.35, end=0.7, target=0.9)
    pruner = Pruner(model, Rule(ramp, tensors=["rnn.weight_hh*"]))
    train(model, steps, pruner)
    print(pruner.finalize().table())

    with tempfile.TemporaryDirectory() as temporary:
        path = (folder or Path(temporary)) / "predictor.asr"
        arrays = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
        sizes = {
            compress: sparse.write(path, arrays, {"hidden": 64}, compress=compress).file_bytes
            for compress in (False, True)
        }
        restored = Predictor()
        restored.load_state_dict({n: torch.from_numpy(a) for n, a in sparse.read(path)[0].items()})
    figures = {
        "dense error": error(dense),
        "pruned error": error(model),
        "read back error": error(restored),
        "sparsity": pruner.sparsity(),
        "dense bytes": sizes[False],
        "packed bytes": sizes[True],
    }
    for name, figure in figures.items():
        print(f"{name:<16}{figure:10.5g}")
    return figures


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
