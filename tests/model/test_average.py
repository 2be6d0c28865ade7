"""The mean of several networks is a network, with the zeros that all of them have."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from model_files import SMALL, network, save

from asr.errors import AsrError
from asr.features.settings import Frontend
from asr.model.average import average
from asr.model.file import load_model, read_model, save_model
from asr.model.pack import pack
from asr.text.tokenizer import train_sentencepiece


@pytest.fixture
def models(tmp_path: Path) -> list[Path]:
    """Three networks as from one training: the same zeros, weights that were trained on."""
    paths = []
    for number in range(3):
        model = network()
        with torch.no_grad(), torch.random.fork_rng():
            torch.manual_seed(number)
            for tensor in model.state_dict().values():
                if tensor.is_floating_point():
                    tensor.mul_(1 + 0.1 * torch.rand_like(tensor))
        path = tmp_path / f"{number}.asr"
        paths.append(save(path, model, {"epoch": number, "confidence": {"a": 1.0}}))
    return paths


def test_every_tensor_is_the_mean_and_zeros_stay(models, tmp_path):
    out = tmp_path / "mean.asr"
    line = average(models, out)
    files = [read_model(path).dense() for path in models]
    mean = read_model(out).dense()
    assert mean.keys() == files[0].keys()
    for name, array in mean.items():
        assert array.dtype == files[0][name].dtype
        if np.issubdtype(array.dtype, np.floating):
            expected = np.mean([file[name].astype(np.float64) for file in files], axis=0)
            np.testing.assert_allclose(array, expected, rtol=1e-6)
            np.testing.assert_array_equal(array == 0, files[0][name] == 0)
        else:
            np.testing.assert_array_equal(array, files[0][name])
    assert "the mean of 3 networks" in line
    assert "less sparse" not in line
    training = read_model(out).metadata.training
    assert training == {"epoch": 0, "averaged": ["0.asr", "1.asr", "2.asr"]}
    loaded = load_model(out)
    with torch.no_grad():
        result, _ = loaded.model(torch.randn(1, 60, SMALL.mels), torch.tensor([60]))
    assert torch.isfinite(result).all()


def test_packed_files_are_averaged_too(models, tmp_path):
    pack(models[1], tmp_path / "packed.asr", values="fp32")
    average([models[0], tmp_path / "packed.asr"], tmp_path / "a.asr")
    average([tmp_path / "packed.asr", models[0]], tmp_path / "b.asr")
    average(models[:2], tmp_path / "c.asr")
    files = [read_model(tmp_path / f"{name}.asr") for name in "abc"]
    assert [file.metadata.packed for file in files] == [None] * 3
    for other in files[1:]:
        for name, array in other.dense().items():
            np.testing.assert_array_equal(array, files[0].dense()[name])


def test_other_zeros_are_said(models, tmp_path):
    other = save(tmp_path / "other.asr", network(seed=7))
    assert "so the mean is less sparse" in average([models[0], other], tmp_path / "mean.asr")


def test_networks_without_a_mean_are_refused_with_what_differs(models, tmp_path):
    def refused(*paths: Path) -> str:
        with pytest.raises(AsrError) as caught:
            average(paths, tmp_path / "mean.asr")
        assert not (tmp_path / "mean.asr").exists()
        return str(caught.value)

    wide = save(tmp_path / "wide.asr", network(replace(SMALL, hidden=14)))
    assert "they differ in model.hidden: 12 and 14" in refused(models[0], wide)
    fine = Frontend(step_seconds=0.005)
    model = network()
    save_model(tmp_path / "fine.asr", model, load_model(models[0]).tokenizer, fine)
    assert "they differ in frontend." in refused(models[0], tmp_path / "fine.asr")
    pieces = train_sentencepiece(["ABCDEFGHIJKLMNOPQRSTUVWX YZ"], 28, tmp_path / "t.model")
    save_model(tmp_path / "pieces.asr", model, pieces, Frontend())
    assert "they differ in their tokenizers" in refused(models[0], tmp_path / "pieces.asr")
    pack(models[1], tmp_path / "folded.asr", fold=True)
    assert "folded.asr: its batch norms are folded" in refused(models[0], tmp_path / "folded.asr")
    assert "at least two" in refused(models[0])
    assert "named twice" in refused(models[0], models[0])
