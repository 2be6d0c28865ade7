"""One step of a training, as benchmarks time it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from asr.pruning import Pruner
from asr.settings.training import OptimiserSettings
from asr.train.losses import ctc_losses
from asr.train.module import build_optimiser
from asr.train.trainer import autocast

SHORTEST, LONGEST = 4.0, 14.0
"""Seconds of the utterances; within a batch they are of about equal length, as in a training."""
CHARACTERS_PER_SECOND = 14

Step = Callable[[Sequence[Tensor]], None]


@contextmanager
def flush_denormal() -> Iterator[None]:
    """Denormal numbers are zero, as in a training."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def a_batch(seconds: float, mels: int) -> list[Tensor]:
    """Features, lengths, targets and their lengths of utterances of about equal length."""
    generator = torch.Generator().manual_seed(3)
    longest = (SHORTEST * LONGEST) ** 0.5
    count = max(1, int(seconds / longest))
    durations = longest * (1 - 0.1 * torch.rand(count, generator=generator))
    durations[0] = longest
    lengths = (100 * durations).long()
    tokens = (CHARACTERS_PER_SECOND * durations).long()
    features = torch.randn(count, int(lengths.max()), mels, generator=generator)
    targets = torch.randint(1, 29, (count, int(tokens.max())), generator=generator)
    return [features, lengths, targets, tokens]


def trainer_of(
    network: nn.Module, precision: str, settings: OptimiserSettings, pruner: Pruner | None = None
) -> Step:
    """What makes one step of a training of the network with a batch."""
    optimiser = build_optimiser(network, settings)

    def step(batch: Sequence[Tensor]) -> None:
        features, lengths, targets, tokens = batch
        with autocast(precision, torch.device("cpu")):
            log_probs, frames = network(features, lengths)
        loss = ctc_losses(log_probs, frames, targets, tokens).sum() / tokens.sum()
        optimiser.zero_grad()
        loss.backward()
        if pruner:
            pruner.mask_gradients()
        nn.utils.clip_grad_norm_(network.parameters(), settings.clip_norm)
        optimiser.step()
        if pruner:
            pruner.step(optimiser)

    return step
