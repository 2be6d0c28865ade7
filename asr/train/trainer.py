"""Lightning's Trainer as this project uses it, and the one place that reads its inside.

All that depends on a warning, an attribute or a default that Lightning may change is in this file,
so that a new version of Lightning is checked by reading it.
"""

import logging
import os
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import lightning.pytorch as lightning
import torch
from lightning.fabric.plugins.environments import (
    ClusterEnvironment,
    LightningEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)
from lightning.pytorch.strategies import DDPStrategy

from asr.environment import machine
from asr.errors import AsrError
from asr.settings.run import Run
from asr.train.ranks import ProcessPlace, Ranks

Precision = Literal["float32", "bf16"]

# Lightning cannot know that our data module resumes exactly (asr/train/data.py), and its advice to
# use more workers does not fit machines whose cores all compute.
_EXPECTED_WARNINGS = (
    ".*resuming from a checkpoint that ended before the epoch ended.*",
    ".*does not have many workers.*",
    ".*The number of training batches.*",
    ".*treespec.*LeafSpec.*",
    ".*Checkpoint directory.*exists and is not empty.*",
    # Figures are summed over the ranks before they are logged.
    ".*sync_dist=True.*",
    ".*Grad strides do not match bucket view strides.*",
    # Its successor is not in torch 2.11.
    ".*`broadcast_buffers` is deprecated.*",
    ".*srun.*command is available on your system but is not used.*",
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


def place() -> ProcessPlace:
    """Which process this is, as torchrun or SLURM says.

    Raises AsrError for a SLURM job that does not say how many tasks a machine has.
    """
    environment = _environment()
    if environment is None:
        return ProcessPlace()
    world = environment.world_size()
    if isinstance(environment, TorchElasticEnvironment):
        launcher, devices = "torchrun", os.environ.get("LOCAL_WORLD_SIZE", str(world))
    else:
        launcher, devices = "SLURM", os.environ.get("SLURM_NTASKS_PER_NODE", str(world))
    if world % int(devices):
        raise AsrError(
            f"{launcher} started {world} processes, {devices} on this machine: every machine needs "
            "as many"
        )
    return ProcessPlace(
        environment.global_rank(),
        world,
        environment.local_rank(),
        int(devices),
        world // int(devices),
        launcher,
    )


def _environment() -> ClusterEnvironment | None:
    """What started this process as one of several; None if nothing did."""
    if TorchElasticEnvironment.detect():
        return TorchElasticEnvironment()
    with quiet():
        if not SLURMEnvironment.detect():
            return None
    if int(os.environ["SLURM_NTASKS"]) > 1 and "SLURM_NTASKS_PER_NODE" not in os.environ:
        raise AsrError(
            "SLURM does not say how many tasks a machine has: give sbatch or srun "
            "--ntasks-per-node instead of --ntasks"
        )
    # Our own resume points are enough: Lightning would write one of its own on SIGUSR1.
    environment = SLURMEnvironment(auto_requeue=False)
    # These set the variables by which the processes find each other.
    assert environment.main_address
    assert environment.main_port
    return environment


def make_trainer(settings: Run, callbacks: list[Any], ranks: Ranks) -> lightning.Trainer:
    """A Trainer that writes nothing by itself: the callbacks write all files.

    Each process has one device. With a process group it runs DistributedDataParallel.
    """
    strategy: Any = "auto"
    if ranks.ddp:
        callbacks = [*callbacks, PlainSigterm()]
        strategy = DDPStrategy(
            cluster_environment=_environment() or LightningEnvironment(),
            # They are the same on all ranks (asr/model/torch_ranks.py).
            broadcast_buffers=False,
            # Otherwise the gradients are put into other buckets after the first step, where three
            # and more ranks add them in another order: a resumed training would round elsewhere.
            find_unused_parameters=True,
        )
    return lightning.Trainer(
        accelerator="gpu" if device().type == "cuda" else "cpu",
        devices=ranks.place.devices,
        num_nodes=ranks.place.nodes,
        strategy=strategy,
        plugins=None if ranks.ddp else [LightningEnvironment()],
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


class PlainSigterm(lightning.Callback):
    """On SIGTERM only remember it, as Lightning does with one device.

    With several, its handler sends a message to the other ranks at once, wherever they are: one
    that waits for something else would take it for that. Its loop tells the ranks before each batch
    anyway.
    """

    def on_train_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        def remember(*_: object) -> None:
            trainer._signal_connector.received_sigterm = True

        # Lightning sets the former handlers again when training ends.
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, remember)


def device() -> torch.device:
    """Where the Trainer trains: of several GPUs the one that this process was given."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def gpu() -> dict[str, Any]:
    """Name and memory of the GPU that this process trains on, for a record; empty: it has none."""
    if device().type != "cuda":
        return {}
    found = torch.cuda.get_device_properties(torch.cuda.current_device())
    return {"gpu": found.name, "gpu_memory_gib": round(found.total_memory / 2**30, 1)}


def autocast(precision: str, where: torch.device) -> torch.autocast:
    """What the Trainer wraps a training step in: bf16 for `bf16`, else nothing."""
    return torch.autocast(where.type, torch.bfloat16, enabled=precision == "bf16")


def fast_precision() -> Precision:
    """`bf16` where the device multiplies it faster than float32; elsewhere it is slower."""
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported() else "float32"
    # Private, but torch has no public questions for instruction sets. Intel's AVX512-BF16 takes
    # twice as long as AMD's, and its bfloat16 pays with AMX only.
    amd = "AMD" in machine()["cpu"] and torch.cpu._is_avx512_bf16_supported()
    return "bf16" if amd or torch.cpu._is_amx_tile_supported() else "float32"


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
