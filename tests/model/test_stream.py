"""Log-probabilities of a stream are those of the whole waveform."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from model_files import network

from asr.features.settings import Frontend
from asr.model.backend import open_backend
from asr.model.dimensions import Model
from asr.model.file import save_model
from asr.model.pack import pack
from asr.model.stream import look_ahead, why_not_exact
from asr.text.tokenizer import CharacterTokenizer

SIZES: list[dict[str, Any]] = [
    {},
    {"cell": "lstm", "conv_strides": [[2, 2], [2, 1]], "conv_kernels": [[11, 11], [5, 3]]},
    {"cell": "rnn_tanh", "batch_norm": False},
    {"conv_channels": [4], "conv_kernels": [[5, 1]], "conv_strides": [[2, 3]]},
]


def samples(count: int) -> np.ndarray:
    rng = np.random.default_rng(count)
    noise = rng.normal(0, 0.05, count) * np.abs(np.sin(np.arange(count) / 7000))
    return noise.astype(np.float32)


@pytest.mark.parametrize("changed", SIZES)
@pytest.mark.parametrize("backend", ["native", "torch"])
def test_pieces_give_the_log_probabilities_of_the_whole(
    changed: dict[str, Any], backend: Any, tmp_path: Path
) -> None:
    sizes = {"conv_channels": [4, 4], "hidden": 32, "layers": 2, "bidirectional": False}
    path, packed = tmp_path / "model.asr", tmp_path / "packed.asr"
    model = network(Model(**(sizes | changed)))
    save_model(path, model, CharacterTokenizer(), Frontend(normalise="running"))
    pack(path, packed)
    opened = open_backend(packed if backend == "native" else path, 1, backend)
    cases = ((30123, 320), (30000, 2000), (48011, 40000), (700, 320), (410, 100))
    for count, longest in cases if backend == "native" else cases[1:]:
        waveform = samples(count)
        stream, parts, reached = opened.stream(), [], 0
        rng = np.random.default_rng(longest)
        while reached < count:
            size = int(rng.integers(1, longest))
            parts.append(stream.push(waveform[reached : reached + size]))
            reached += size
        found = np.concatenate([*parts, stream.finish()])
        [whole] = opened.log_probs([opened.features(waveform)])
        if backend == "native":  # to the last bit: kernels that pack values as integers add exactly
            np.testing.assert_array_equal(found, whole)
        else:
            np.testing.assert_allclose(found, whole, atol=1e-4)


def test_an_output_waits_for_the_frames_that_it_needs_and_no_longer(tmp_path: Path) -> None:
    path = tmp_path / "model.asr"
    dimensions = Model(conv_channels=[4, 4], hidden=8, layers=1, bidirectional=False)
    save_model(path, network(dimensions), CharacterTokenizer(), Frontend(normalise="none"))
    stream, frontend = open_backend(path, 1, "native").stream(), Frontend()
    assert look_ahead(dimensions) == 6
    given = [len(stream.push(np.zeros(frontend.window - frontend.step, np.float32)))]
    given += [len(stream.push(np.zeros(frontend.step, np.float32))) for _ in range(20)]
    # Output frame n needs the features up to 4 n + 6, of which the first is number 0.
    assert [i - 1 for i, count in enumerate(given) if count] == [6, 10, 14, 18]


def test_which_networks_stream_exactly() -> None:
    running = Frontend(normalise="running")
    assert "bidirectional" in why_not_exact(Model(), running)
    assert not why_not_exact(Model(bidirectional=False), running)
    assert not why_not_exact(Model(bidirectional=False), Frontend(normalise="none"))
    for normalise in ("speech", "utterance"):
        said = why_not_exact(Model(bidirectional=False), Frontend(normalise=normalise))
        assert f"frontend.normalise={normalise}" in said
