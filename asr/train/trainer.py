"""Lightning's Trainer as this project uses it, and the one place that reads its inside.

All that depends on a warning, an attribute or a default that Lightning may change is in this file,
so that a new version of Lightning is checked by reading it.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import lightning.pytorch as lightning
import torch

from asr.settings.run import Run

Precision = Literal["float32", "bf16"]

# Lightning cannot know that our data module resumes exactly (asr/train/data.py), and its advice to
# use more workers does not fit machines whose cores all compute.
_EXPECTED_WARNINGS = (
    ".*resuming from a checkpoint that ended before the epoch ended.*",
    ".*does not have many workers.*",
    ".*The number of training batches.*",
    ".*treespec.*LeafSpec.*",
    ".*Checkpoint directory.*exists and is not empty.*",
)


@contextmanager
def quiet() -> Iterator[None]:
    """Without Lightning's notes and the warnings that are expected here."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    with warnings.catch_warnings():
        for message in _EXPECTED_WARNINGS:
            warnings.filterwarnings("ignore", message=message)
        yield


def make_trainer(settings: Run, callbacks: list[Any]) -> lightning.Trainer:
    """A Trainer on one device that writes nothing by itself: the callbacks write all files."""
    return lightning.Trainer(
        accelerator="gpu" if device().type == "cuda" else "cpu",
        devices=1,
        max_epochs=settings.training.epochs,
        precision="bf16-mixed" if settings.training.precision == "bf16" else "32-true",
        gradient_clip_val=settings.optimiser.clip_norm,
        accumulate_grad_batches=settings.training.accumulate,
        # The data module makes the batches of each epoch, and of each rank, itself.
        reload_dataloaders_every_n_epochs=1,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        logger=False,
        # Lightning then leaves the callbacks of kind Checkpoint alone, which are ours.
        enable_checkpointing=True,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=callbacks,
    )


def device() -> torch.device:
    """Where the Trainer trains."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def autocast(precision: str, where: torch.device) -> torch.autocast:
    """What the Trainer wraps a training step in: bf16 for `bf16`, else nothing."""
    return torch.autocast(where.type, torch.bfloat16, enabled=precision == "bf16")


def fast_precision() -> Precision:
    """`bf16` where the device multiplies it in hardware; elsewhere it is emulated, slowly."""
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported() else "float32"
    # Private, but torch has no public question for AVX512-BF16.
    return "bf16" if torch.cpu._is_avx512_bf16_supported() else "float32"


def accumulating(trainer: lightning.Trainer) -> bool:
    """Whether gradients are summed and no optimiser step follows yet.

    Private, but the only place that knows of a last batch that ends an epoch early.
    """
    return bool(trainer.fit_loop.epoch_loop._should_accumulate())


def batches_done(trainer: lightning.Trainer) -> int:
    """Batches of the current epoch that were trained on; 0 after its last one.

    `batch_progress` is saved in Lightning's own checkpoints, so its fields are stable.
    """
    progress: Any = trainer.fit_loop.epoch_loop.batch_progress
    return 0 if progress.is_last_batch else int(progress.current.processed)


def exit_status(trainer: lightning.Trainer) -> int | None:
    """What a process that a signal ended must return, as a shell expects; None: no signal did.

    Lightning's own answer to Ctrl-C and SIGTERM has status 1 and 0, which says neither.
    """
    if trainer.received_sigterm:
        return 143
    return 130 if trainer.interrupted else None
