"""Prunes a torchaudio network while Lightning trains it with CTC.

    python recipes/examples/prune_torchaudio.py [steps]

torchaudio's DeepSpeech (three linear layers, a bidirectional RNN, two linear layers) learns to
transcribe melodies of five tones: 2 to 6 tones of 80 to 160 ms, with random pitch, length and
noise. All its matrices but the last end with a tenth of their weights. To prune your network, pass
`PruningCallback` to your Trainer; nothing else here is about pruning.
"""

import itertools
import logging
import sys
import warnings
from collections.abc import Iterator

import lightning.pytorch as lightning
import torch
import torchaudio
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from asr.pruning import Cubic, PruningCallback, Rule, statistics

SAMPLE_RATE = 8000
HERTZ = (330.0, 440.0, 587.0, 784.0, 1047.0)
"""Pitch of each tone; tone n has the CTC label n + 1, and 0 is the blank."""
Batch = tuple[Tensor, Tensor, Tensor, Tensor]


def melody(generator: torch.Generator) -> tuple[Tensor, list[int]]:
    """Samples of some tones with short gaps between them, and their labels."""

    def draw(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=generator))

    count = int(torch.randint(2, 7, (), generator=generator))
    labels = torch.randint(1, 1 + len(HERTZ), (count,), generator=generator).tolist()
    parts = []
    for label in labels:
        time = torch.arange(int(SAMPLE_RATE * draw(0.08, 0.16))) / SAMPLE_RATE
        pitch = HERTZ[label - 1] * draw(0.97, 1.03)
        parts += [torch.zeros(320), draw(0.3, 1.0) * torch.sin(2 * torch.pi * pitch * time)]
    samples = torch.cat([*parts, torch.zeros(320)])
    return samples + 0.05 * torch.randn(len(samples), generator=generator), labels


class Melodies(IterableDataset[Batch]):
    """Endless batches: features (batch, 1, frames, 32), frames, labels, numbers of labels."""

    def __init__(self, seed: int, batch: int = 16) -> None:
        self.seed, self.batch = seed, batch
        self.features = torchaudio.transforms.MelSpectrogram(
            SAMPLE_RATE, n_fft=256, hop_length=160, n_mels=32
        )

    def __iter__(self) -> Iterator[Batch]:
        generator = torch.Generator().manual_seed(self.seed)
        while True:
            pairs = [melody(generator) for _ in range(self.batch)]
            mels = [(self.features(samples) + 1e-3).log().T for samples, _ in pairs]
            padded = torch.nn.utils.rnn.pad_sequence(mels, batch_first=True, padding_value=-7.0)
            labels = [torch.tensor(labels) for _, labels in pairs]
            yield (
                padded[:, None] / 4.0,
                torch.tensor([len(mel) for mel in mels]),
                torch.cat(labels),
                torch.tensor([len(s) for s in labels]),
            )


class Recogniser(lightning.LightningModule):
    """torchaudio's network with the CTC loss."""

    def __init__(self, hidden: int = 96) -> None:
        super().__init__()
        self.net = torchaudio.models.DeepSpeech(
            n_feature=32, n_hidden=hidden, n_class=1 + len(HERTZ), dropout=0.0
        )

    def training_step(self, batch: Batch, index: int) -> Tensor:
        features, frames, labels, counts = batch
        log_probs = self.net(features).transpose(0, 1)
        return torch.nn.functional.ctc_loss(log_probs, labels, frames, counts)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), 2e-3)


@torch.no_grad()
def error_rate(net: torch.nn.Module, batches: int = 8) -> float:
    """Wrong, missing and extra tones over all tones, for melodies that are not in training."""
    net.eval()
    wrong = total = 0
    for features, frames, labels, counts in itertools.islice(Melodies(seed=999), batches):
        best = net(features).argmax(-1)
        for path, length, truth in zip(best, frames, labels.split(counts.tolist()), strict=True):
            recognised = [s for s, _ in itertools.groupby(path[:length].tolist()) if s]
            wrong += torchaudio.functional.edit_distance(truth.tolist(), recognised)
            total += len(truth)
    return wrong / total


def main(steps: int = 500) -> tuple[float, float]:
    """Train and print the results; the error rate and the sparsity of the pruned tensors."""
    torch.manual_seed(1)
    module = Recogniser()
    pruning = PruningCallback(
        lambda total: Rule(Cubic.from_fractions(total, 0.4, 0.8, target=0.9), ["fc*", "bi_rnn*"]),
        model=module.net,
    )
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*LeafSpec.*")
        trainer = lightning.Trainer(
            max_steps=steps,
            accelerator="cpu",
            gradient_clip_val=1.0,
            callbacks=[pruning],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(module, DataLoader(Melodies(seed=1), batch_size=None))
    stats = statistics(module.net, ["fc*", "bi_rnn*"])
    print(stats.table())
    error = error_rate(module.net)
    print(f"{100 * error:.1f} % of tones wrong after {steps} steps")
    return error, stats.prunable_sparsity


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
