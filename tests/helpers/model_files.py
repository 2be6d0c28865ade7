"""Small networks with weights as after training, and model files of them."""

from pathlib import Path
from typing import Any

import torch

from asr.features.settings import Frontend
from asr.model.dimensions import Model
from asr.model.file import save_model
from asr.model.torch_network import DeepSpeech
from asr.text.tokenizer import CharacterTokenizer

SMALL = Model(conv_channels=[4, 4], hidden=12, layers=2)


def network(dimensions: Model = SMALL, sparsity: float = 0.9, seed: int = 0) -> DeepSpeech:
    """A network as after training: batch norms in use, small recurrent weights pruned."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = DeepSpeech(dimensions)
        for _ in range(3):
            model(torch.randn(4, 60, dimensions.mels), torch.tensor([60, 50, 40, 60]))
        with torch.no_grad():
            for name, tensor in model.named_parameters():
                if name.startswith("rnn") and tensor.dim() == 2:
                    small = tensor.abs() < tensor.abs().flatten().quantile(sparsity)
                    tensor.masked_fill_(small, 0)
                if ".norm." in name:
                    tensor.add_(0.2 * torch.randn_like(tensor))
    return model.eval()


def save(path: Path, model: DeepSpeech, extra: dict[str, Any] | None = None) -> Path:
    save_model(path, model, CharacterTokenizer(), Frontend(), extra)
    return path


VARIANTS = [
    {},
    {"cell": "lstm", "combine": "concat"},
    {"cell": "rnn_relu", "shared_input": True},
    {"cell": "rnn_tanh", "bidirectional": False, "batch_norm": False},
]
