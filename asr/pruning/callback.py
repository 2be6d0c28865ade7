"""Pruning inside Lightning: hooks call `Pruner` and `GroupLasso`; checkpoints have their state."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from torch import nn
from torch.optim import Optimizer

from asr.errors import AsrError
from asr.pruning.lasso import GroupLasso
from asr.pruning.masks import MIN_DENSITY
from asr.pruning.prunable import current
from asr.pruning.pruner import STEPS_OF_THE_OPTIMISER, Pruner
from asr.pruning.rule import Rule
from asr.pruning.schedule import Unfinished

Rules = Rule | Sequence[Rule]


class PruningCallback(Callback):
    """Prunes a LightningModule, or the network inside it, while it trains; arguments of `Pruner`.

    rules: one rule, several, or a function that makes them from the number of all optimiser steps;
    it is called when training starts, and on resuming with the number from the checkpoint, so that
    a resumed run prunes at the same steps whatever its loader says then. model: the part that is
    pruned and whose own names the rules use; None: the LightningModule itself, whose names then
    begin with the attribute that holds the network. `pruner` is the Pruner, from the start of
    training on. At the start and at each update the trainer's loggers get, over optimiser steps,
    `sparsity` (of the pruned tensors), `sparsity_of_model` and `sparsity/NAME` of each tensor.
    Needs one optimiser. Raises AsrError if a checkpoint without pruning state, or
    with another one, is resumed. A second `fit` of the same trainer and network goes on with the
    masks of the first.

    Its place among the callbacks does not matter: what others write into the weights, as weight
    averaging does for validations, in checkpoints and at the end, has the masks' zeros.

    >>> from asr.pruning import Cubic, PruningCallback, Rule
    >>> pruning = PruningCallback(lambda steps: Rule(Cubic.from_fractions(steps)))
    >>> trainer = Trainer(max_steps=1000, callbacks=[pruning], logger=False, accelerator="cpu")
    """

    def __init__(
        self,
        rules: Rules | Callable[[int], Rules],
        model: nn.Module | None = None,
        min_density: float = MIN_DENSITY,
        check_ranks: bool = True,
    ) -> None:
        self.rules = rules
        self.model = model
        self.min_density = min_density
        self.check_ranks = check_ranks
        self.pruner: Pruner | None = None
        self.total_steps: int | None = None
        """Optimiser steps that a function of them was called with."""
        self._restored: Mapping[str, Any] | None = None
        self._seen = 0
        self._warned = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """A new training needs a new Pruner, with the masks of the last if it only goes on."""
        if stage != "fit":
            return
        again = (
            trainer.global_step
            and not trainer.ckpt_path
            and self.pruner is not None
            and self.pruner.model is self._part(pl_module)
        )
        # Otherwise none: a checkpoint that was tested in between is not resumed.
        self._restored = self.state_dict() if again else None
        self.pruner = None
        self._put_last(trainer)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leave the trainer's callbacks as they were."""
        if stage == "fit":
            self._take_away(trainer)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Only here are weights, optimiser and loader all restored."""
        self._start(trainer, pl_module)

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        """Lightning clips gradients after this hook."""
        assert self.pruner is not None
        self.pruner.mask_gradients()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        """There is no hook after the optimiser's step; this one runs before any validation, and
        before `ModelCheckpoint`, which Lightning moves behind the other callbacks."""
        self._follow(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave an ordinary model."""
        assert self.pruner is not None
        with warnings.catch_warnings():
            if self._warned:
                warnings.simplefilter("ignore", Unfinished)
            self.pruner.finalize()

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Resumed from its last step, training neither starts nor ends: do both here."""
        if self.pruner is None and self._restored is not None:
            self._start(trainer, pl_module)
            self.on_train_end(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """The Pruner's state, and the number of steps its rules were made from."""
        if self.pruner is not None:
            return {**self.pruner.state_dict(), "total_steps": self.total_steps}
        return dict(self._restored or {})

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Lightning restores callbacks before there is a Pruner: hold the state until there is."""
        self._restored = state_dict

    def _part(self, pl_module: LightningModule) -> nn.Module:
        """What is pruned."""
        return pl_module if self.model is None else self.model

    def _put_last(self, trainer: Any) -> None:
        """Add `MasksLast` behind all callbacks but those that write checkpoints."""
        self._take_away(trainer)
        writers = [each for each in trainer.callbacks if isinstance(each, Checkpoint)]
        others = [each for each in trainer.callbacks if not isinstance(each, Checkpoint)]
        trainer.callbacks = [*others, MasksLast(self), *writers]

    def _take_away(self, trainer: Any) -> None:
        trainer.callbacks = [
            each
            for each in trainer.callbacks
            if not (isinstance(each, MasksLast) and each.pruning is self)
        ]

    def _start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make the Pruner, and give it the state of the checkpoint if there is one."""
        if len(trainer.optimizers) != 1:
            raise AsrError(
                f"PruningCallback counts the steps of one optimiser and found "
                f"{len(trainer.optimizers)}; use Pruner in a loop of your own"
            )
        model = self._part(pl_module)
        if all(model is not part for part in pl_module.modules()):
            raise AsrError(
                f"the {type(model).__name__} to prune is not a part of the "
                f"{type(pl_module).__name__} that is trained"
            )
        state, self._restored = self._restored, None
        if state is None and trainer.global_step:
            if not trainer.ckpt_path:
                raise AsrError(
                    f"this Trainer has made {trainer.global_step} steps without this callback or "
                    "with another network: make a new Trainer"
                )
            raise AsrError(
                f"training resumes at step {trainer.global_step} from a checkpoint without "
                "pruning state: start anew from its weights instead"
            )
        self.pruner = Pruner(
            model,
            self._resolve(trainer, state),
            trainer.optimizers[0],
            self.min_density,
            self.check_ranks,
        )
        if state is not None:
            self.pruner.load_state_dict(state)
        self._seen = self.pruner.steps
        self._warn_if_too_short(trainer)
        self._log(trainer)
        # A checkpoint written between the optimiser's step and ours is one step behind.
        self._follow(trainer)

    def _warn_if_too_short(self, trainer: Trainer) -> None:
        """Warn before hours of training rather than after them."""
        assert self.pruner is not None
        total, last = trainer.estimated_stepping_batches, self.pruner.last_update
        self._warned = 0 < total < last
        if self._warned:
            warnings.warn(
                f"training has {total} steps, but the last update of the masks is after step "
                f"{last}: {STEPS_OF_THE_OPTIMISER}",
                Unfinished,
                stacklevel=2,
            )

    def _follow(self, trainer: Trainer) -> None:
        """Step the Pruner if the optimiser stepped; under accumulation not every batch does."""
        assert self.pruner is not None
        steps = trainer.global_step - self._seen
        if steps not in (0, 1):
            raise AsrError(
                f"the optimiser is at step {trainer.global_step} and the pruner at {self._seen}: "
                "the checkpoint is of another run, or one batch made several optimiser steps, for "
                "which Pruner in a loop of your own is needed"
            )
        if steps:
            self.pruner.step()
            if self.pruner.curve and self.pruner.curve[-1][0] == self.pruner.steps:
                self._log(trainer)
        self._seen = trainer.global_step

    def _log(self, trainer: Trainer) -> None:
        assert self.pruner is not None
        figures = {
            "sparsity": self.pruner.sparsity(),
            "sparsity_of_model": self.pruner.model_sparsity(),
            **{f"sparsity/{name}": value for name, value in self.pruner.sparsities().items()},
        }
        for logger in trainer.loggers:
            logger.log_metrics(figures, step=self.pruner.steps)

    def _resolve(self, trainer: Trainer, state: Mapping[str, Any] | None) -> Rules:
        if not callable(self.rules):
            return self.rules
        if state is not None and state.get("total_steps") is not None:
            self.total_steps = int(state["total_steps"])
        else:
            total = trainer.estimated_stepping_batches
            if not 0 < total < float("inf"):
                raise AsrError(
                    "the number of optimiser steps is not known before training, so the pruning "
                    "rules cannot be a function of it: set max_steps, or give rules"
                )
            self.total_steps = int(total)
        return self.rules(self.total_steps)


class MasksLast(Callback):
    """Applies the masks of a PruningCallback behind all callbacks that may have written weights.

    PruningCallback puts it there for the time of a `fit`, before those that write checkpoints.
    """

    def __init__(self, pruning: PruningCallback) -> None:
        self.pruning = pruning

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """SWA's average gets its batch norm statistics in an epoch of its own."""
        self._apply()

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """What is validated is what will be saved."""
        self._apply()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Before a checkpoint is written at the end."""
        self._apply()

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """After the hooks of the LightningModule at the end of training."""
        self._apply()

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """An average that replaces the weights in a checkpoint gets their zeros."""
        pruner, saved = self.pruning.pruner, checkpoint["state_dict"]
        if pruner is None:
            return
        keeps = {
            id(current(pruner.model, name, keep.shape)): keep
            for name, keep in pruner.masks().items()
        }
        for prefix, module in pl_module.named_modules(remove_duplicate=False):
            for leaf, weight in module._parameters.items():
                name = f"{prefix}.{leaf}" if prefix else leaf
                value = saved.get(name)
                if id(weight) not in keeps or value is None or value.shape != weight.shape:
                    continue
                dropped = ~keeps[id(weight)].to(value.device)
                if value[dropped].any():
                    saved[name] = value.masked_fill(dropped, 0.0)

    def _apply(self) -> None:
        if self.pruning.pruner is not None:
            self.pruning.pruner.apply_masks()


class GroupLassoCallback(Callback):
    """Adds the gradients of a `GroupLasso` to those of the loss, once for each optimiser step.

    Lightning clips gradients after it. Together with a `PruningCallback` their order does not
    matter: a dropped block is zero, and so is its part of the penalty's gradient.
    """

    def __init__(self, lasso: GroupLasso) -> None:
        self.lasso = lasso

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        """Once for each optimiser step, also when gradients are accumulated over batches."""
        self.lasso.add_gradients()
