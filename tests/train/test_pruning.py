"""Settings become the rule that they describe."""

from dataclasses import replace
from pathlib import Path

import pytest

from asr.errors import AsrError
from asr.features.logmel_torch import Frontend
from asr.model.dimensions import Model
from asr.model.file import save_model
from asr.model.torch_network import DeepSpeech
from asr.pruning import (
    Bank,
    Block,
    Constant,
    Cubic,
    Element,
    Frozen,
    Linear,
    OneCut,
    Pruner,
    RigL,
    Rule,
    ThresholdRamp,
    find,
)
from asr.settings.run import Run
from asr.settings.yaml import load
from asr.text.tokenizer import CharacterTokenizer
from asr.train.pruning import lasso_of, rule_of

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
        ("method=ramp target=0.9", Rule(RAMP, ["rnn*"], target=0.9)),
        (
            "method=ramp target=0.9 ramp_ratio=2 scope=group tensors=[rnn*,output*] floor=0.01",
            Rule(
                replace(RAMP, ratio=2.0), ["rnn*", "output*"], Element(), "group", 0.9, floor=0.01
            ),
        ),
        (
            "method=ramp target=0.8 pattern=block block=[4,4] block_score=l2",
            Rule(RAMP, ["rnn*"], Block(4, 4, "l2"), target=0.8),
        ),
        (
            "method=cubic target=0.906 pattern=bank bank=16",
            Rule(Cubic(250, 700, 11, 0.906), ["rnn*"], Bank(16)),
        ),
        (
            "method=linear target=0.5 start=0 end=1 updates=100 scope=global",
            Rule(Linear(0, 1000, 10, 0.5), ["rnn*"], scope="global"),
        ),
        ("method=constant target=0.5", Rule(Constant(0.5), ["rnn*"])),
        (
            "method=one_cut target=0.9 cut=0.25 pattern=block rates=[rnn*hh*=0.8]",
            Rule(OneCut(250, 0.9), ["rnn*"], Block(16, 1), rates={"rnn*hh*": 0.8}),
        ),
        (
            "method=rigl target=0.8 end=0.5 updates=10 exchange=0.2",
            Rule(RigL(500, 50, 0.8, 0.2), ["rnn*"], regrow=True),
        ),
        ("method=frozen tensors=[output*]", Rule(Frozen(), ["output*"])),
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
    if not isinstance(rule.schedule, Frozen):
        Pruner(model, rule)


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
    words = ["pruning.method=ramp", f"pruning.dense={dense}", f"pruning.calibrate={by}"]
    rule = rule_of(load(Run, None, words).pruning, model, 1000)
    assert rule is not None
    assert rule.target is None
    assert rule.thresholds is not None
    assert list(rule.thresholds) == list(find(model, ["rnn*"]))
    recurrent = {q for name, q in rule.thresholds.items() if "weight_hh" in name}
    assert len(recurrent) == (2 if by == "tensor" else 1)


def test_a_dense_network_of_other_dimensions_is_refused(dense: Path) -> None:
    other = DeepSpeech(replace(DIMENSIONS, hidden=16))
    words = ["pruning.method=ramp", f"pruning.dense={dense}"]
    with pytest.raises(AsrError, match="hidden 12 against 16"):
        rule_of(load(Run, None, words).pruning, other, 1000)
