"""The same inside Lightning: hooks to `Pruner`, and its state into the checkpoint."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn
from torch.optim import Optimizer

from asr.errors import AsrError
from asr.pruning.masks import MIN_DENSITY
from asr.pruning.pruner import Pruner
from asr.pruning.schedule import Schedule, schedule_from_plain


class PruningCallback(Callback):
    """Prunes a LightningModule, or the network inside it, while it trains; arguments of `Pruner`.

    model: the part that is pruned and whose own names thresholds and patterns use; None: the
    LightningModule itself, whose names then begin with the attribute that holds the network.
    schedule: a schedule, or a function from the number of all optimiser steps to one; it is
    called once, when training starts, and what it gave is kept in the checkpoint, so that a
    resumed run prunes at the same steps whatever its loader says then. `pruner` is the Pruner,
    from the start of training on. Needs one optimiser. Raises AsrError if a checkpoint without
    pruning state, or with another one, is resumed.
    """

    def __init__(
        self,
        schedule: Schedule | Callable[[int], Schedule],
        thresholds: Mapping[str, float] | None = None,
        patterns: Iterable[str] | None = None,
        min_density: float = MIN_DENSITY,
        model: nn.Module | None = None,
    ) -> None:
        self.schedule = schedule
        self.thresholds = thresholds
        self.patterns = patterns if patterns is None else list(patterns)
        self.min_density = min_density
        self.model = model
        self.pruner: Pruner | None = None
        self._restored: Mapping[str, Any] | None = None
        self._seen = 0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """A new training needs a new Pruner."""
        if stage == "fit":
            self.pruner = None

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
        self.pruner.finalize()

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Resumed from its last step, training neither starts nor ends: do both here."""
        if self.pruner is None and self._restored is not None:
            self._start(trainer, pl_module)
            self.on_train_end(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """The Pruner's state."""
        if self.pruner is not None:
            return self.pruner.state_dict()
        return dict(self._restored or {})

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Lightning restores callbacks before there is a Pruner: keep it until there is."""
        self._restored = state_dict

    def _start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make the Pruner, and give it the state of the checkpoint if there is one."""
        if len(trainer.optimizers) != 1:
            raise AsrError(
                f"PruningCallback counts the steps of one optimiser and found "
                f"{len(trainer.optimizers)}; use Pruner in a loop of your own"
            )
        model = pl_module if self.model is None else self.model
        if all(model is not part for part in pl_module.modules()):
            raise AsrError(
                f"the {type(model).__name__} to prune is no part of the "
                f"{type(pl_module).__name__} that is trained"
            )
        state, self._restored = self._restored, None
        if state is None and trainer.global_step:
            raise AsrError(
                f"training goes on at step {trainer.global_step} from a checkpoint without "
                "pruning state: start anew from its weights instead"
            )
        self.pruner = Pruner(
            model,
            self._resolve(trainer, state),
            self.thresholds,
            self.patterns,
            trainer.optimizers[0],
            self.min_density,
        )
        if state is not None:
            self.pruner.load_state_dict(state)
        self._seen = self.pruner.steps
        # A checkpoint written between the optimiser's step and ours is one step behind.
        self._follow(trainer)

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
        self._seen = trainer.global_step

    def _resolve(self, trainer: Trainer, state: Mapping[str, Any] | None) -> Schedule:
        if isinstance(self.schedule, Schedule):
            return self.schedule
        if state is not None:
            return schedule_from_plain(state["schedule"])
        total = trainer.estimated_stepping_batches
        if not 0 < total < float("inf"):
            raise AsrError(
                "the number of optimiser steps is not known before training, so the pruning "
                "schedule cannot be a function of it: set max_steps, or give a schedule"
            )
        return self.schedule(int(total))
