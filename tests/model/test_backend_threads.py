"""The threads of backends in torch, whose number holds for the whole process."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from tone_network import save_tone_model, speak

from asr.features import logmel_torch
from asr.features.settings import Frontend
from asr.model.backend import TorchBackend, open_backend


def test_threads_of_one_backend_change_no_other(tmp_path: Path) -> None:
    """torch has one number of threads for the process: it is set around each call."""
    dense = save_tone_model(tmp_path / "tone.asr")
    during: dict[int | None, int] = {}
    before = torch.get_num_threads()
    for threads in (None, before + 1, before + 2):
        backend = open_backend(dense, threads)
        assert torch.get_num_threads() == before
        assert isinstance(backend, TorchBackend)
        backend._model.register_forward_hook(
            lambda *_, threads=threads: during.update({threads: torch.get_num_threads()})
        )
        backend.log_probs([np.zeros((20, 80), np.float32)])
        assert torch.get_num_threads() == before
    assert during == {None: before, before + 1: before + 1, before + 2: before + 2}


def test_features_and_streams_take_the_threads_of_their_backend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    during: list[int] = []
    compute = logmel_torch.features

    def seen(samples: np.ndarray, settings: Frontend) -> torch.Tensor:
        during.append(torch.get_num_threads())
        return compute(samples, settings)

    monkeypatch.setattr(logmel_torch, "features", seen)
    threads = torch.get_num_threads() + 1
    backend = open_backend(save_tone_model(tmp_path / "tone.asr"), threads)
    backend.features(speak("BAD"))
    assert set(during) == {threads}
    during.clear()
    backend.stream().push(speak("BAD"))
    assert set(during) == {threads}


def test_threads_are_restored_after_an_error(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    backend = open_backend(save_tone_model(tmp_path / "tone.asr"), before + 1)
    with pytest.raises(RuntimeError):
        backend.log_probs([np.zeros((20, 7), np.float32)])
    assert torch.get_num_threads() == before


def test_backends_with_several_threads_are_used_by_several_threads(tmp_path: Path) -> None:
    dense = save_tone_model(tmp_path / "tone.asr")
    backends = [open_backend(dense, threads) for threads in (1, 2, None)]
    rows = [backends[0].features(speak(text)) for text in ("BAD CAFE", "FEED A BEE")]
    before = torch.get_num_threads()
    expected = backends[0].log_probs(rows)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda i: backends[i % 3].log_probs(rows), range(12)):
            for ours, theirs in zip(found, expected, strict=True):
                np.testing.assert_allclose(ours, theirs, atol=1e-5, rtol=0)
    assert torch.get_num_threads() == before
