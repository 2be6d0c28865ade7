"""Rules refuse parts that do not fit each other, before a training begins."""

import pytest

from asr.errors import AsrError
from asr.pruning.patterns import Bank, Block
from asr.pruning.rule import Rule
from asr.pruning.schedule import Frozen
from asr.pruning.sparsity_schedules import Constant, Cubic, OneCut
from asr.pruning.threshold_schedule import ThresholdRamp

RAMP = ThresholdRamp(1000, 5000, 10000, 100)
CUBIC = Cubic(1000, 5000, 100, 0.9)
Q = {"rnn.weight_hh_l0": 0.1}


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        ((0.9,), "float is not a pruning schedule; give a ThresholdRamp, Cubic"),
        ((RAMP,), r"ThresholdRamp: it needs thresholds.*calibrate.* or a target"),
        ((CUBIC, None, "bank"), r"pattern='bank': Element\(\), Block\(rows, columns\) or Bank\(\)"),
        ({"schedule": CUBIC, "scope": "layer"}, 'scope=\'layer\': "tensor", "group" or "global"'),
        ({"schedule": CUBIC, "floor": 1}, "floor=1: a share from 0 to below 1"),
        ({"schedule": RAMP, "target": 90}, r"target=90: a share above 0 and below 1, such as 0\.9"),
        ({"schedule": CUBIC, "rates": {"rnn*": 95}}, r"rate of 'rnn\*'=95: a share"),
        ({"schedule": CUBIC, "floor": "0.1"}, "floor='0.1': a share from 0 to below 1"),
        ({"schedule": CUBIC, "score": 3}, r"score=3: a function \(name, parameter\) -> scores"),
        ({"schedule": Frozen(), "regrow": True}, "Frozen: its zeros stay; regrow needs"),
        ({"schedule": Frozen(), "thresholds": Q}, "Frozen: it compares nothing: give it no thresh"),
        ({"schedule": Frozen(), "pattern": Bank()}, "Frozen: it keeps the zeros that are there"),
        ({"schedule": Frozen(), "target": 0.9}, "Frozen: it keeps the zeros that are there"),
        ({"schedule": CUBIC, "thresholds": Q}, "Cubic: it drops shares and compares no thresholds"),
        ({"schedule": Constant(0.9), "target": 0.8}, "Constant: it has its final share already"),
        (
            {"schedule": RAMP, "target": 0.9, "pattern": Bank()},
            "banks of equal counts need a sched",
        ),
        ({"schedule": RAMP, "thresholds": Q, "scope": "global"}, 'scope="global" needs a target'),
        ({"schedule": RAMP, "thresholds": Q, "rates": {"*": 0.8}}, "rates need a target"),
        (
            {"schedule": RAMP, "thresholds": Q, "pattern": Block(4, 4, "l2")},
            'thresholds are for blocks of score="max"',
        ),
        ({"schedule": RAMP, "thresholds": Q, "score": max}, "thresholds compare magnitudes"),
        (
            {"schedule": RAMP, "target": 0.9, "regrow": True},
            "under a threshold no weight comes back",
        ),
        ({"schedule": CUBIC, "regrow": True, "keep_zeros": True}, "contradict each other"),
        ({"schedule": CUBIC, "pattern": Bank(), "scope": "group"}, 'banks .* scope="group" has no'),
        ({"schedule": CUBIC, "pattern": Bank(), "floor": 0.1}, "banks .* take no floor"),
        (
            {"schedule": CUBIC, "rates": {"*": 0.8}, "scope": "global"},
            "rates give each tensor its own",
        ),
        (
            {"schedule": RAMP, "target": 0.9, "thresholds": Q, "scope": "global"},
            "thresholds are of tensors",
        ),
    ],
)
def test_parts_that_do_not_fit_are_refused(arguments, fragment):
    with pytest.raises(AsrError, match=fragment):
        Rule(**arguments) if isinstance(arguments, dict) else Rule(*arguments)


def test_plain_values_tell_rules_apart_and_name_the_score():
    def by_sign(name, weight):
        return weight

    first = Rule(OneCut(5, 0.9), "rnn*", score=by_sign)
    assert first.tensors == ("rnn*",)
    assert first.to_plain()["score"] == "by_sign"
    assert first.to_plain() == Rule(OneCut(5, 0.9), ["rnn*"], score=by_sign).to_plain()
    assert first.to_plain() != Rule(OneCut(6, 0.9), ["rnn*"], score=by_sign).to_plain()
