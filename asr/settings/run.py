"""All settings of one training as frozen dataclasses of plain values.

Ranges and conflicts are checked when a dataclass is made, in the words of the YAML file. Reading
YAML files and `key=value` overrides is `asr.settings.yaml`. Neither torch nor YAML is needed here.
"""

from dataclasses import dataclass, field
from typing import Literal

from asr.errors import problems
from asr.features.settings import Frontend
from asr.model.dimensions import Model
from asr.plain import at_most, refuse_unused
from asr.settings.data import AugmentSettings, DataSettings, TokenizerSettings
from asr.settings.pruning import PruningSettings
from asr.settings.training import DistillationSettings, OptimiserSettings, TrainingSettings


@dataclass(frozen=True)
class Run:
    """One training: the content of a recipe's YAML file."""

    name: str = "run"
    """Name of the run folder; empty: `dense`, or `sparse` with a `pruning.method`."""
    recipe: str = ""
    """Recipe that this run belongs to; written to the record."""
    group: str = ""
    """Series in tables and plots, such as `dense` or `sparse`; written to the record."""
    label: str = ""
    """Name in tables; empty: `name`."""
    seed: int = 1
    """Seed of everything random."""
    threads: int = 1
    """Threads of torch."""
    runs: str = ""
    """Folder of run folders; empty: the environment variable ASR_RUNS, else `runs`."""
    init: str = ""
    """Model to fine-tune, a file (dense or packed) or a name: the training starts from its weights,
    and `asr train` takes what is left out of `model`, `frontend` and `tokenizer` from it. Empty:
    random weights."""
    init_output: Literal["keep", "new"] = "keep"
    """`keep`: the output layer and the tokenizer of `init`; `new`: an output layer of random
    weights for the tokens of `tokenizer`."""
    data: DataSettings = field(default_factory=DataSettings)
    tokenizer: TokenizerSettings = field(default_factory=TokenizerSettings)
    frontend: Frontend = field(default_factory=Frontend)
    augment: AugmentSettings = field(default_factory=AugmentSettings)
    model: Model = field(default_factory=Model)
    optimiser: OptimiserSettings = field(default_factory=OptimiserSettings)
    pruning: PruningSettings = field(default_factory=PruningSettings)
    distillation: DistillationSettings = field(default_factory=DistillationSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)

    def __post_init__(self) -> None:
        if not self.name:
            name = "dense" if self.pruning.method == "none" else "sparse"
            object.__setattr__(self, "name", name)
        with problems() as check:
            plain = "/" not in self.name and self.name not in (".", "..")
            check(plain, f"name={self.name!r}: a plain name")
            check(self.threads >= 1, f"threads={self.threads}: at least 1")
            check(self.seed >= 0, f"seed={self.seed}: 0 or more")
            at_most(check, "", self, seed=2**63 - 1, threads=1024)
            check(
                bool(self.init) or self.init_output == "keep",
                "init_output=new changes the network of init=FILE, and init is empty",
            )
            check(
                self.model.mels == self.frontend.mels,
                f"model.mels={self.model.mels}, frontend.mels={self.frontend.mels}: must be equal",
            )
            check(
                bool(self.init)
                or not (self.pruning.method == "fixed_mask" or self.pruning.keep_zeros),
                "pruning.method=fixed_mask and pruning.keep_zeros keep the zeros of init=FILE, and "
                "init is empty",
            )
            # Not in `Model`: the model file of an older network may hold such values.
            at_most(check, "model", self.model, hidden=10**5, layers=1000, conv_channels=10**5)
            at_most(check, "model", self.model, conv_kernels=1000, conv_strides=1000)
            needed = "model.bidirectional=true"
            refuse_unused(
                check, "model", self.model, (("combine",), self.model.bidirectional, needed)
            )
