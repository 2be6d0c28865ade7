"""Settings become the rule that they describe."""

from dataclasses import fields, replace
from pathlib import Path
from typing import get_args

import pytest

from asr.errors import AsrError
from asr.features.logmel_torch import Frontend
from asr.model.dimensions import Model
from asr.model.file import save_model
from asr.model.torch_network import DeepSpeech
from asr.pruning import (
    Bank,
    Block,
    Cubic,
    Element,
    FixedMask,
    OneShot,
    Pruner,
    RigL,
    Rule,
    ThresholdRamp,
    find,
)
from asr.pruning.schedule import schedule_class
from asr.settings.pruning import PruningSettings
from asr.settings.run import Run
from asr.settings.yaml import load
from asr.text.tokenizer import CharacterTokenizer
from asr.train.pruning import check_pruning, lasso_of, rule_of

DIMENSIONS = Model(hidden=12, layers=1, conv_channels=[2, 4], outputs=29)
RAMP = ThresholdRamp(250, 400, 700, 11)


@pytest.fixture(scope="module")
def model() -> DeepSpeech:
    return DeepSpeech(DIMENSIONS)


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory, model: DeepSpeech) -> Path:
    path = tmp_path_factory.mktemp("dense") / "model.asr"
    save_model(path, model, CharacterTokenizer(), Frontend(), {"name": "dense", "step": 1})
    return path


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("method=threshold_ramp target=0.9", Rule(replace(RAMP, target=0.9), ["rnn*"])),
        (
            "method=threshold_ramp target=0.9 slope_ratio=2 scope=group tensors=[rnn*,output*]",
            Rule(
                replace(RAMP, slope_ratio=2.0, target=0.9), ["rnn*", "output*"], Element(), "group"
            ),
        ),
        (
            "method=threshold_ramp target=0.8 pattern=block block=[4,4] block_score=l2",
            Rule(replace(RAMP, target=0.8), ["rnn*"], Block(4, 4, "l2")),
        ),
        (
            "method=cubic target=0.906 pattern=bank bank=16",
            Rule(Cubic(250, 700, 11, 0.906), ["rnn*"], Bank(16)),
        ),
        (
            "method=cubic target=0.5 start=0 end=1 mask_updates=100 scope=global",
            Rule(Cubic(0, 1000, 10, 0.5), ["rnn*"], scope="global"),
        ),
        ("method=one_shot target=0.5 at=0", Rule(OneShot(1, 0.5), ["rnn*"])),
        (
            "method=one_shot target=0.9 at=0.25 pattern=block",
            Rule(OneShot(250, 0.9), ["rnn*"], Block(16, 1)),
        ),
        (
            "method=rigl target=0.8 end=0.5 mask_updates=10 drop_fraction=0.2",
            Rule(RigL(500, 50, 0.8, 0.2), ["rnn*"]),
        ),
        ("method=fixed_mask tensors=[output*]", Rule(FixedMask(), ["output*"])),
        (
            "method=cubic target=0.9 keep_zeros=true",
            Rule(Cubic(250, 700, 11, 0.9), ["rnn*"], keep_zeros=True),
        ),
    ],
)
def test_settings_make_the_rule(words: str, expected: Rule, model: DeepSpeech) -> None:
    overrides = [f"pruning.{word}" for word in words.split()]
    rule = rule_of(load(Run, None, [*overrides, "init=x.asr"]).pruning, model, 1000)
    assert rule == expected
    if not isinstance(rule.schedule, FixedMask):
        Pruner(model, rule)


def test_the_seed_of_the_run_draws_the_first_mask_of_rigl(model: DeepSpeech) -> None:
    words = ["pruning.method=rigl", "pruning.target=0.9", "pruning.mask_updates=20"]
    rule = rule_of(load(Run, None, words).pruning, model, 1000, seed=3)
    assert isinstance(rule.schedule, RigL)
    assert rule.schedule.seed == 3


def test_group_lasso_has_the_blocks_and_tensors_that_are_pruned(model: DeepSpeech) -> None:
    words = ["method=cubic", "target=0.9", "pattern=block", "block=[4,2]", "tensors=[rnn*hh*]"]
    pruning = load(Run, None, [f"pruning.{word}" for word in words]).pruning
    assert lasso_of(pruning, model) is None
    lasso = lasso_of(replace(pruning, lasso=0.01), model)
    assert lasso is not None
    assert (lasso.weight, lasso.rows, lasso.columns) == (0.01, 4, 2)
    assert lasso.names == list(find(model, ["rnn*hh*"]))


def test_no_method_makes_no_rule(model: DeepSpeech) -> None:
    assert rule_of(Run().pruning, model, 1000) is None


@pytest.mark.parametrize("by", ["tensor", "group"])
def test_thresholds_come_from_the_dense_network(model: DeepSpeech, dense: Path, by: str) -> None:
    words = ["pruning.method=threshold_ramp", f"pruning.dense={dense}", f"pruning.calibrate={by}"]
    rule = rule_of(load(Run, None, words).pruning, model, 1000)
    assert rule is not None
    assert rule.schedule == RAMP
    assert rule.thresholds is not None
    assert list(rule.thresholds) == list(find(model, ["rnn*"]))
    recurrent = {q for name, q in rule.thresholds.items() if "weight_hh" in name}
    assert len(recurrent) == (2 if by == "tensor" else 1)


def test_a_dense_network_of_other_dimensions_is_refused(dense: Path) -> None:
    other = DeepSpeech(replace(DIMENSIONS, hidden=16))
    words = ["pruning.method=threshold_ramp", f"pruning.dense={dense}"]
    with pytest.raises(AsrError, match="hidden 12 against 16"):
        rule_of(load(Run, None, words).pruning, other, 1000)


@pytest.mark.parametrize(
    ("words", "fragment"),
    [
        ("method=threshold_ramp", "method=threshold_ramp: ThresholdRamp: it needs a target"),
        ("method=cubic", "Cubic: target=None: a fraction above 0 and below 1"),
        ("method=rigl", "RigL: target=None: a fraction above 0"),
        ("target=0.9", "target=0.9 does nothing without a pruning.method"),
        ("pattern=block lasso=0.1", "without pruning.pattern=block and a pruning.method"),
        (
            "method=fixed_mask target=0.9",
            "target=0.9 does nothing without pruning.method=threshold",
        ),
        (
            "method=cubic target=0.9 start=0.8",
            "need fractions 0 <= start < end <= 1, got start=0.8",
        ),
        ("method=threshold_ramp target=0.9 ramp=0.8", "fractions 0 <= start < ramp < end <= 1"),
        ("method=cubic target=0.9 mask_updates=0", "mask_updates=0: a whole number, at least 1"),
        ("method=threshold_ramp target=0.9 slope_ratio=0", "slope_ratio=0.0 must be above 0"),
        ("method=one_shot target=0.9 at=1.5", "need fractions 0 <= at <= 1, got at=1.5"),
        (
            "method=threshold_ramp target=0.9 expected_sparsity=0.9",
            "a target is always checked",
        ),
        ("method=threshold_ramp target=0.9 pattern=bank", "pattern=bank: ThresholdRamp: banks of"),
        (
            "method=cubic target=0.9 scope=group pattern=bank",
            "pattern=bank pruning.scope=group: Cub",
        ),
        ("method=threshold_ramp dense=x scope=global", 'scope="global" needs a target'),
        ("method=threshold_ramp dense=x pattern=block block_score=l2", 'blocks of score="max"'),
        ("method=cubic target=0.9 dense=x", "dense=x: Cubic: it compares no thresholds"),
        (
            "method=cubic target=0.9 pattern=bank bank=1",
            "Bank: columns=1: a whole number, at least",
        ),
        (
            "method=cubic target=0.9 percentile=0.8",
            "percentile=0.8 does nothing without pruning.den",
        ),
        (
            "method=cubic target=0.9 at=0.4",
            "pruning.at=0.4 does nothing without pruning.method=one_s",
        ),
        (
            "method=cubic target=0.9 slope_ratio=2",
            "slope_ratio=2.0 does nothing without pruning.me",
        ),
        ("method=cubic target=0.9 drop_fraction=0.2", "does nothing without pruning.method=rigl"),
        ("method=threshold_ramp target=0.9 block=[4,4]", "does nothing without pruning.pattern=bl"),
        (
            "method=cubic target=0.9 lasso=0.1",
            "lasso=0.1 does nothing without pruning.pattern=block",
        ),
        ("method=fixed_mask pattern=bank", "FixedMask: it keeps the zeros that are there"),
        ("method=rigl target=0.9 pattern=block", "RigL: it replaces single weights"),
        ("method=rigl target=0.9 drop_fraction=1", "RigL: drop_fraction=1.0: a fraction above 0"),
        (
            "method=rigl target=0.9 keep_zeros=true",
            "keep_zeros=True: RigL: it lets weights come back",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused_with_their_keys(
    words: str, fragment: str
) -> None:
    overrides = ["init=x", *(f"pruning.{word}" for word in words.split())]
    with pytest.raises(AsrError) as error:
        check_pruning(load(Run, None, overrides).pruning)
    assert fragment in str(error.value)
    assert str(error.value).removeprefix("command line: ").startswith("pruning.")


def test_each_method_of_the_settings_is_one_of_asr_pruning() -> None:
    types = {field.name: field.type for field in fields(PruningSettings)}
    methods, patterns = get_args(types["method"]), get_args(types["pattern"])
    assert [m for m in methods if m != "none"] == [
        kind.method for kind in (ThresholdRamp, Cubic, OneShot, RigL, FixedMask)
    ]
    assert all(schedule_class(m).method == m for m in methods if m != "none")
    assert list(patterns) == [kind.name for kind in (Element, Block, Bank)]
