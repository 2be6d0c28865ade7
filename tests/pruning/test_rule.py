"""Rules refuse parts that do not fit each other, before a training begins."""

from dataclasses import replace

import pytest

from asr.errors import AsrError
from asr.pruning.patterns import Bank, Block
from asr.pruning.rigl import RigL
from asr.pruning.rule import Rule
from asr.pruning.schedule import FixedMask
from asr.pruning.sparsity_schedules import Cubic, OneShot
from asr.pruning.threshold_schedule import ThresholdRamp

RAMP = ThresholdRamp(1000, 5000, 10000, 100)
TO_TARGET = replace(RAMP, target=0.9)
CUBIC = Cubic(1000, 5000, 100, 0.9)
RIGL = RigL(1000, 100, 0.9)
Q = {"rnn.weight_hh_l0": 0.1}


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        ((0.9,), "float is not a pruning schedule; give a ThresholdRamp, Cubic"),
        ((RAMP,), r"ThresholdRamp: it needs a target.* or thresholds.*calibrated"),
        ((CUBIC, None, "bank"), r"pattern='bank': Element\(\), Block\(rows, columns\) or Bank\(\)"),
        ({"schedule": CUBIC, "scope": "layer"}, 'scope=\'layer\': "tensor", "group" or "global"'),
        ({"schedule": FixedMask(), "thresholds": Q}, "FixedMask: it compares no thresholds"),
        (
            {"schedule": FixedMask(), "pattern": Bank()},
            "FixedMask: it keeps the zeros",
        ),
        (
            {"schedule": FixedMask(), "scope": "global"},
            "FixedMask: it keeps the zeros",
        ),
        (
            {"schedule": CUBIC, "thresholds": Q},
            "Cubic: it compares no thresholds",
        ),
        (
            {"schedule": TO_TARGET, "pattern": Bank()},
            "banks of equal counts need a sched",
        ),
        ({"schedule": RAMP, "thresholds": Q, "scope": "global"}, 'scope="global" needs a target'),
        (
            {"schedule": RAMP, "thresholds": Q, "pattern": Block(4, 4, "l2")},
            'thresholds are for blocks of score="max"',
        ),
        ({"schedule": RIGL, "keep_zeros": True}, "RigL: it lets weights come back"),
        ({"schedule": RIGL, "pattern": Block(4, 4)}, "RigL: it replaces single weights"),
        ({"schedule": CUBIC, "pattern": Bank(), "scope": "group"}, 'banks .* scope="group" has no'),
        (
            {"schedule": TO_TARGET, "thresholds": Q, "scope": "global"},
            'scope="global" needs a target and no thresholds',
        ),
    ],
)
def test_parts_that_do_not_fit_are_refused(arguments, fragment):
    with pytest.raises(AsrError, match=fragment):
        Rule(**arguments) if isinstance(arguments, dict) else Rule(*arguments)


def test_plain_values_distinguish_rules():
    first = Rule(OneShot(5, 0.9), "rnn*")
    assert first.tensors == ("rnn*",)
    assert first.to_plain() == Rule(OneShot(5, 0.9), ["rnn*"]).to_plain()
    assert first.to_plain() != Rule(OneShot(6, 0.9), ["rnn*"]).to_plain()
