"""A network made by hand that recognises letters: each is a tone, in bands picked by the weights.

It is not trained, and its output is not constant: the text is computed from the audio, so tests of
transcription can ask for exact words.
"""

from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

from asr.features.logmel_torch import features
from asr.features.settings import Frontend
from asr.model.dimensions import Model
from asr.model.file import TorchModel, load_model, save_model
from asr.model.torch_network import DeepSpeech
from asr.text.tokenizer import CharacterTokenizer

RATE = 16000
LETTERS = " ABCDEFG"
HERTZ = dict(zip(LETTERS, (400, 700, 1100, 1600, 2300, 3300, 4600, 6200), strict=True))
FRONTEND = Frontend(normalise="none")
SPOKEN_SECONDS, SILENT_SECONDS = 0.10, 0.06


def speak(text: str, rate: int = RATE) -> np.ndarray:
    """A waveform that the tone network transcribes as `text`."""
    t = np.arange(round(SPOKEN_SECONDS * rate)) / rate
    ramp = np.clip(np.minimum(t, t[::-1]) / 0.02, 0, 1)
    silence = np.zeros(round(SILENT_SECONDS * rate))
    parts = [silence]
    for letter in text:
        parts += [0.3 * ramp * np.sin(2 * np.pi * HERTZ[letter] * t), silence]
    return np.concatenate(parts).astype(np.float32)


def record(path: Path, text: str, rate: int = RATE, channels: int = 1) -> Path:
    """Write a text as tones to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.repeat(speak(text, rate)[:, None], channels, axis=1), rate)
    return path


@torch.no_grad()
def tone_model() -> DeepSpeech:
    """Convolution: log-mel + 8, not below 0. Recurrent: one unit a letter. Output: the loudest."""
    dimensions = Model(
        conv_channels=[1],
        conv_kernels=[[1, 1]],
        conv_strides=[[1, 1]],
        cell="rnn_relu",
        hidden=len(LETTERS),
        layers=1,
        bidirectional=False,
        batch_norm=False,
    )
    model = DeepSpeech(dimensions).eval()
    for parameter in model.parameters():
        parameter.zero_()
    weights: dict[str, Any] = dict(model.named_parameters())
    weights["conv.0.convolution.weight"].fill_(1.0)
    weights["conv.0.convolution.bias"].fill_(8.0)
    tokenizer = CharacterTokenizer()
    for i, (letter, hertz) in enumerate(HERTZ.items()):
        t = np.arange(RATE) / RATE
        band = features(0.3 * np.sin(2 * np.pi * hertz * t), FRONTEND).mean(dim=0).argmax()
        weights["rnn.0.forward_cell.weight_ih_l0"][i, band] = 1.0
        weights["output.linear.weight"][tokenizer.encode(letter)[0], i] = 1.0
    weights["output.linear.bias"].fill_(-100.0)
    weights["output.linear.bias"][[0, *tokenizer.encode(LETTERS)]] = torch.tensor(
        [9.0] + [0.0] * len(LETTERS)
    )
    return model


def save_tone_model(path: Path) -> Path:
    """Write the tone network as a model file."""
    save_model(path, tone_model(), CharacterTokenizer(), FRONTEND)
    return path


def tone_loaded(folder: Path) -> TorchModel:
    """The tone network, read from a model file."""
    return load_model(save_tone_model(folder / "tone.asr"))
