"""Settings of pruning (a part of `asr.settings.run`)."""

from dataclasses import MISSING, Field, dataclass, field, fields
from typing import Any, Literal

from asr.errors import Check, problems


@dataclass(frozen=True)
class PruningSettings:
    """Which weights are zeroed, when; `asr.pruning` holds the methods themselves."""

    method: Literal["none", "ramp", "cubic", "linear", "constant", "one_cut", "rigl", "frozen"] = (
        "none"
    )
    """`ramp`: the paper's threshold in two slopes; `cubic`, `linear`: a share that grows to
    `target`; `constant`: that share from the first step on; `one_cut`: once, at `cut`; `rigl`:
    that share from the first step on, small weights exchanged for ones with large gradients up to
    `end`; `frozen`: keep the zeros that `init` brings."""
    target: float = 0.0
    """Sparsity to end at, per tensor, group or overall (`scope`); the ramp's slopes are corrected
    on the way. 0: a ramp from the thresholds of `dense` alone."""
    dense: str = ""
    """Ramp: model file of a trained dense network that thresholds are calibrated from."""
    percentile: float = 0.90
    """Ramp: q is this quantile of the dense network's absolute weights."""
    calibrate: Literal["tensor", "group"] = "tensor"
    """Ramp: one q for each tensor, or for all recurrent, input, linear, convolution weights."""
    start: float = 0.25
    """First step of pruning as a share of all optimiser steps."""
    ramp: float = 0.40
    """Ramp: where the threshold begins to rise faster, as a share of all steps."""
    end: float = 0.70
    """Where pruning stops, as a share of all steps."""
    cut: float = 0.50
    """One cut: where it is made, as a share of all steps."""
    ramp_ratio: float = 1.5
    """Ramp: slope after `ramp` over slope before it; 1.5 ends the threshold at q."""
    updates: int = 40
    """Updates of the masks between start and end (at least about 30)."""
    exchange: float = 0.3
    """RigL: share of the weights exchanged at first; it falls to 0 at `end`."""
    lasso: float = 0.0
    """Weight of a group lasso over the blocks of `pattern=block`, added to the loss all through
    training; 0: none."""
    pattern: Literal["element", "block", "bank"] = "element"
    """`element`: weights one by one; `block`: tiles; `bank`: equal counts in parts of rows."""
    block: list[int] = field(default_factory=lambda: [16, 1])
    """Rows and columns of a tile."""
    block_score: Literal["max", "l2"] = "max"
    """What a tile is compared by: its largest weight, or the root of its squares' sum."""
    bank: int = 32
    """Columns of a bank; a target of 0.9 keeps 3 of 32."""
    scope: Literal["tensor", "group", "global"] = "tensor"
    """Whose weights compete for the target: of a tensor, a group of tensors, or of all."""
    rates: list[str] = field(default_factory=list)
    """Targets of single tensors as PATTERN=SHARE, for those that differ from `target`."""
    floor: float = 0.0
    """Share of every tensor that stays at least."""
    keep_zeros: bool = False
    """Whether zeros that `init` brings stay, when a pruned network is pruned further."""
    wanted: float = 0.0
    """Ramp without target: sparsity that is hoped for, checked at the end; 0: none."""
    tolerance: float = 0.05
    """How far the sparsity reached may be from `target` or `wanted` before the run ends with an
    error."""
    tensors: list[str] = field(default_factory=lambda: ["rnn*"])
    """Name patterns of the weights that are pruned, among those that may be (no biases, norms)."""

    def __post_init__(self) -> None:
        with problems() as check:
            self._check_window(check)
            self._check_amount(check)
            self._check_pattern(check)
            self._check_extras(check)

    @property
    def rate_of(self) -> dict[str, float]:
        """`rates` as pattern -> share."""
        return dict(_rate(word) for word in self.rates)

    @property
    def expected(self) -> float:
        """Sparsity of the pruned tensors together that is to be reached; 0: none was named."""
        return self.wanted or (0.0 if self.rates else self.target)

    def _check_window(self, check: Check) -> None:
        check(
            0 <= self.start < self.ramp < self.end <= 1
            if self.method == "ramp"
            else 0 <= self.start < self.end <= 1,
            f"pruning: need 0 <= start {'< ramp ' * (self.method == 'ramp')}< end <= 1, got "
            f"start={self.start}, ramp={self.ramp}, end={self.end}",
        )
        check(0 < self.cut <= 1, f"pruning.cut={self.cut}: a share above 0, up to 1")
        check(self.ramp_ratio > 0, f"pruning.ramp_ratio={self.ramp_ratio}: above 0")
        check(self.updates >= 1, f"pruning.updates={self.updates}: at least 1")

    def _check_amount(self, check: Check) -> None:
        method, ramp = self.method, self.method == "ramp"
        for name in ("target", "wanted", "floor"):
            value = getattr(self, name)
            check(0 <= value < 1, f"pruning.{name}={value}: from 0 to below 1")
        check(0 < self.percentile < 1, f"pruning.percentile={self.percentile}: a share, 0 to 1")
        check(self.tolerance > 0, f"pruning.tolerance={self.tolerance}: above 0")
        check(
            ramp or not (self.dense or self.wanted),
            f"pruning.dense and pruning.wanted are for pruning.method=ramp, which is {method}",
        )
        check(
            not (self.target and self.wanted),
            "pruning.wanted is for a ramp without pruning.target: the target is checked by itself",
        )
        check(
            not ramp or bool(self.dense or self.target),
            "pruning.method=ramp needs pruning.target=SHARE, the sparsity to end at, or "
            "pruning.dense=FILE, a trained dense model of the same dimensions, from which the "
            "thresholds are calibrated",
        )
        check(
            method not in ("cubic", "linear", "constant", "one_cut", "rigl") or self.target > 0,
            f"pruning.method={method} needs pruning.target=SHARE, the sparsity to end at",
        )
        check(
            method not in ("none", "frozen") or not self.target,
            f"pruning.target={self.target} with pruning.method={method}, which drops nothing",
        )

    def _check_extras(self, check: Check) -> None:
        check(0 < self.exchange < 1, f"pruning.exchange={self.exchange}: between 0 and 1")
        check(
            self.method == "rigl" or self.exchange == 0.3,
            f"pruning.exchange is for pruning.method=rigl, which is {self.method}",
        )
        check(
            self.method != "rigl"
            or (self.pattern == "element" and self.scope == "tensor" and not self.floor),
            "pruning.method=rigl exchanges single weights of each tensor: it takes no pattern, "
            "scope or floor",
        )
        check(
            self.method != "rigl" or not self.keep_zeros,
            "pruning.keep_zeros=true and pruning.method=rigl, which lets weights come back, "
            "contradict each other",
        )
        check(self.lasso >= 0, f"pruning.lasso={self.lasso}: not negative")
        check(
            not self.lasso or (self.pattern == "block" and self.method not in ("none", "frozen")),
            "pruning.lasso makes the blocks small that pruning.pattern=block then drops: set that, "
            "and pruning.method=ramp, cubic, linear, constant or one_cut",
        )

    def _check_unused(self, check: Check) -> None:
        """Refuse what would be ignored; not for `none`, with which a recipe is trained dense."""
        none, defaults = self.method == "none", {f.name: _default(f) for f in fields(self)}
        for names, used, where in (
            (("percentile", "calibrate"), bool(self.dense), "pruning.dense=FILE"),
            (("ramp_ratio",), self.method == "ramp", "pruning.method=ramp"),
            (("cut",), self.method == "one_cut", "pruning.method=one_cut"),
            (("block", "block_score"), self.pattern == "block", "pruning.pattern=block"),
            (("bank",), self.pattern == "bank", "pruning.pattern=bank"),
            (("pattern", "floor"), self.method != "frozen", "a method that drops weights"),
        ):
            for name in names:
                value = getattr(self, name)
                check(
                    none or used or value == defaults[name],
                    f"pruning.{name}={value} does nothing without {where}",
                )

    def _check_pattern(self, check: Check) -> None:
        check(
            len(self.block) == 2 and all(n >= 1 for n in self.block),
            f"pruning.block={list(self.block)}: [rows, columns], at least 1 each",
        )
        check(self.bank >= 2, f"pruning.bank={self.bank}: at least 2 columns")
        check(
            not (self.pattern == "bank" and self.method == "ramp"),
            "pruning.pattern=bank needs a share, which a threshold does not give: set "
            "pruning.method=cubic, linear, constant or one_cut",
        )
        self._check_unused(check)
        check(
            self.scope == "tensor" or (self.pattern != "bank" and not self.rates),
            f"pruning.scope={self.scope}: pruning.pattern=bank and pruning.rates are per tensor",
        )
        check(
            self.scope == "tensor" or (bool(self.target) and not self.dense),
            f"pruning.scope={self.scope} needs pruning.target and takes no pruning.dense, whose "
            "thresholds are per tensor",
        )
        check(
            not self.rates or bool(self.target), "pruning.rates need pruning.target for the others"
        )
        for word in self.rates:
            check(
                0 < _rate(word)[1] < 1,
                f"pruning.rates: {word!r} must be PATTERN=SHARE with a share between 0 and 1",
            )


def _default(setting: Field[Any]) -> Any:
    factory = setting.default_factory
    return setting.default if factory is MISSING else factory()


def _rate(word: str) -> tuple[str, float]:
    pattern, _, share = word.rpartition("=")
    try:
        return pattern, float(share) if pattern else 0.0
    except ValueError:
        return pattern, 0.0
