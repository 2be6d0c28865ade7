"""What fits into memory, found before the training: the largest batch, tried as it will run."""

import copy
import math
from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch.utilities.memory import garbage_collection_cuda, is_oom_error
from torch import nn

from asr.errors import AsrError
from asr.files import atomic_write_bytes
from asr.model.torch_network import DeepSpeech
from asr.settings.run import Run
from asr.sparse import torch_training
from asr.train.batches import Batch, batch_bytes
from asr.train.fit import TrainingParts
from asr.train.losses import ctc_losses
from asr.train.module import build_optimiser, mixed_loss
from asr.train.ranks import distinct
from asr.train.trainer import autocast, device, gpu

MARGIN = 0.1
"""Of a batch that is tried, the fraction that the training will not use: memory is in pieces, and
a later epoch may have a larger batch."""
STEP = 1.05
"""The search ends when what fits and what does not are this close."""
BATCHES = 100
"""Of an epoch at least, on each rank, however much memory there is."""


def try_largest_batch(parts: TrainingParts) -> None:
    """Make the steps that need most memory now, not hours later, on a copy of everything.

    One of training, and one of validation. Raises AsrError that names the batch, which is saved, if
    memory or the network fails.
    """
    for find, attempt, part in (
        (parts.data.largest_batch, _train, "train"),
        (parts.data.largest_dev_batch, _validate, "dev"),
    ):
        batch = find()
        try:
            attempt(parts, batch)
        except (RuntimeError, MemoryError) as error:
            raise _failed(parts, batch, error, part) from None


def check_gpu() -> None:
    """AsrError without a GPU, for `data.batch_seconds=auto`."""
    if not gpu():
        raise AsrError(
            "data.batch_seconds=auto is as much as the memory of a GPU holds, and torch finds no "
            "GPU here: set the seconds of audio in a batch, such as data.batch_seconds=120"
        )


def find_batch_seconds(parts: TrainingParts) -> float:
    """The largest `data.batch_seconds` whose largest batch fits into the memory of the GPU.

    Each rank tries by itself, and all take the smallest that any found. It leaves a margin, and an
    epoch has 100 batches. Raises AsrError if not even one utterance fits.
    """
    data, ranks = parts.data, parts.ranks
    # The settings want the longest utterance that they allow to fit into a batch.
    least = max(data.longest, parts.settings.data.max_seconds)
    most = most_seconds(data.seconds, least, ranks.world)

    def find() -> float:
        found = largest_that_fits(lambda seconds: _fits(parts, seconds / (1 - MARGIN)), least, most)
        if found is None:
            where = gpu()
            raise AsrError(
                f"data.batch_seconds=auto: a batch of {least:.1f} s, one long utterance, does not "
                f"fit into the {where['gpu_memory_gib']:g} GiB of {where['gpu']}: lower "
                "data.max_seconds or the size of the network"
            )
        return found

    found = min(ranks.gather(ranks.everywhere(find)))
    # Rounded down, for people, but never below the longest utterance.
    return max(least, math.floor(10 * found) / 10)


def most_seconds(seconds: float, least: float, world: int) -> float:
    """The largest batch that is wanted of utterances of so many seconds in all."""
    return max(least, seconds / (BATCHES * world))


def largest_that_fits(
    fits: Callable[[float], bool], least: float, most: float, step: float = STEP
) -> float | None:
    """The largest value from `least` to `most` that fits, down to a factor of `step`.

    None if not even `least` does. What is below a value that fits must fit too.
    """
    if not fits(least):
        return None
    low, high = least, most * step  # fits, and does not, or is not wanted
    while low < most:
        trial = min(2 * low, most)
        if not fits(trial):
            high = trial
            break
        low = trial
    while high / low > step and low < most:
        middle = float((low * high) ** 0.5)
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _fits(parts: TrainingParts, seconds: float) -> bool:
    """Whether the largest batch of so many seconds can be trained on."""
    batch = parts.data.largest_batch(seconds)
    try:
        _train(parts, batch)
    except (RuntimeError, MemoryError) as error:
        if _is_out_of_memory(error):
            return False
        raise _failed(parts, batch, error, "train") from None
    finally:
        garbage_collection_cuda()
    return True


def _is_out_of_memory(error: BaseException) -> bool:
    kinds = (torch.OutOfMemoryError, MemoryError)
    # As cuBLAS and cuDNN say it.
    return isinstance(error, kinds) or is_oom_error(error) or "_ALLOC_FAILED" in str(error)


def _train(parts: TrainingParts, batch: Batch) -> None:
    """The step of the training: autocast, gradient, clipping, and the optimiser.

    What a training holds beside it is held here too. In all steps but the first the state of the
    optimiser is there, so it is made before.
    """
    where, settings = device(), parts.settings
    batch = batch.to(where)
    # As large as the network, and on the device beside it: its memory is missing for the rest.
    average = copy.deepcopy(parts.module.average)
    if average is not None:
        average.to(where)
    model = copy.deepcopy(parts.model).to(where).train()
    optimiser = build_optimiser(model, settings.optimiser)
    for group in optimiser.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.zeros_like(parameter)
    optimiser.step()
    if settings.training.accumulate == 1:
        optimiser.zero_grad()
    held = _held(parts, model)
    for masks in _masks_of_steps(model, settings, where):
        model.keep_zeros(masks)
        with autocast(settings.training.precision, where):
            log_probs, lengths = model(batch.features, batch.feature_lengths)
            ctc = ctc_losses(log_probs, lengths, batch.targets, batch.target_lengths)
            found = mixed_loss(ctc, batch, log_probs, lengths, parts.module.teacher)
            loss = found.get("loss", ctc.sum())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.optimiser.clip_norm)
        optimiser.step()
    del held


def _masks_of_steps(
    model: DeepSpeech, settings: Run, where: torch.device
) -> list[dict[str, torch.Tensor] | None]:
    """None for the dense step, and masks for the sparse one, which needs more memory.

    A pruned training makes sparse steps once its masks are final. How many weights are left changes
    little of what a step holds.
    """
    sparse = settings.pruning.method != "none" and where.type == "cpu"
    if not sparse or not torch_training.supports(model.dimensions.cell):
        return [None]
    left = torch_training.DENSEST / 2
    matrices = {name: p for name, p in model.named_parameters() if p.dim() == 2}
    return [None, {name: torch.rand_like(p) < left for name, p in matrices.items()}]


def _validate(parts: TrainingParts, batch: Batch) -> None:
    """The step of the validation: of dev, recordings of any length may be alone in a batch."""
    where = device()
    batch = batch.to(where)
    model = copy.deepcopy(parts.model).to(where).eval()
    with torch.no_grad(), autocast(parts.settings.training.precision, where):
        model(batch.features, batch.feature_lengths)


def _held(parts: TrainingParts, model: nn.Module) -> list[Any]:
    """As much memory as masks take, and the buckets in which the ranks average their gradients."""
    held: list[Any] = []
    if parts.settings.pruning.method != "none":
        held += [torch.empty_like(p, dtype=torch.bool) for p in model.parameters() if p.dim() > 1]
    if parts.ranks.ddp:
        held += [torch.empty_like(p) for p in model.parameters()]
    return held


def _failed(parts: TrainingParts, batch: Batch, error: BaseException, part: str) -> AsrError:
    saved = parts.folder / distinct("failed_batch.pt", parts.ranks)
    atomic_write_bytes(saved, batch_bytes(batch))
    longest = "" if part == "train" else ", or leave the longest recordings out of data.dev"
    return AsrError(
        f"the largest batch of {part} ({len(batch.ids)} utterances, {batch.features.shape[1]} "
        f"frames, {batch.seconds:.0f} s) fails: {error}\nIt is in {saved}; if memory is short, "
        f"lower data.batch_seconds (now {parts.settings.data.batch_limit:g}){longest}"
    )
