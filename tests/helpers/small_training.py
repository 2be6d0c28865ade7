"""A small recurrent network and its training in a plain loop, for the tests of the Pruner."""

import torch
from torch import nn

from asr.pruning.calibrate import calibrate
from asr.pruning.prunable import find
from asr.pruning.pruner import Pruner
from asr.pruning.rule import Rule
from asr.pruning.threshold_schedule import ThresholdRamp

RAMP = ThresholdRamp(start=4, ramp=20, end=66, frequency=2)  # 30 updates: 6, 8, ..., 64
STEPS = 72

OPTIMISERS = {
    "adam": lambda p: torch.optim.Adam(p, 2e-3, weight_decay=1e-4, amsgrad=True),
    "adamw": lambda p: torch.optim.AdamW(p, 5e-3),
    "nesterov": lambda p: torch.optim.SGD(p, 5e-2, momentum=0.9, nesterov=True),
    "momentum": lambda p: torch.optim.SGD(p, 5e-2, momentum=0.9, weight_decay=1e-4),
}


class Net(nn.Module):
    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.rnn = nn.GRU(6, 12, bidirectional=True)
        self.output = nn.Linear(24, 5)

    def forward(self, x):
        return self.output(self.rnn(x)[0])


def backward(model, step):
    torch.manual_seed(step)
    model(torch.randn(5, 3, 6)).pow(2).sum(-1).add(0.1).log().mean().backward()


def train(model, optimiser, pruner, steps, mask_gradients=True, clip=None):
    for _ in range(steps):
        optimiser.zero_grad()
        backward(model, pruner.steps)
        if mask_gradients:
            pruner.mask_gradients()
        if clip:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimiser.step()
        pruner.step(optimiser)


def setting(optimiser="adamw", patterns=("rnn*",)):
    model = Net()
    thresholds = calibrate(model, find(model, patterns), 0.8)
    rule = Rule(RAMP, thresholds=thresholds)
    return model, OPTIMISERS[optimiser](model.parameters()), Pruner(model, rule)
