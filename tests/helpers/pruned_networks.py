"""Small pruned networks of every variant, for tests of the sparse backends."""

import dataclasses

import torch
from pruned_modules import pruned

from asr.model.dimensions import Model
from asr.model.fold import fold_tensors
from asr.model.torch_network import DeepSpeech, from_arrays
from asr.sparse.state_dict import to_arrays

SMALL = Model(conv_channels=[4, 4], hidden=16, layers=2)

VARIANTS = [
    {},
    {"cell": "lstm", "combine": "concat"},
    {"cell": "rnn_relu", "shared_input": True},
    {"cell": "gru", "shared_input": True, "combine": "concat"},
    {"cell": "rnn_tanh", "bidirectional": False, "batch_norm": False},
]


def network(variant: dict[str, object]) -> DeepSpeech:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = DeepSpeech(dataclasses.replace(SMALL, **variant))
        model(torch.randn(4, 60, 80), torch.tensor([60, 50, 40, 60]))  # gives the norms statistics
        pruned(model.rnn)
    return model.eval()


def folded(model: DeepSpeech) -> DeepSpeech:
    """An equal network whose batch norms are multiplied into its weights."""
    return from_arrays(*fold_tensors(to_arrays(model), model.dimensions))


def parameters_of(model: DeepSpeech) -> int:
    """Elements of the parameters of a network, tied ones once."""
    return sum(parameter.numel() for parameter in model.parameters())
