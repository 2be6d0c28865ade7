"""A model file, dense or packed, restores its network, and is described without torch."""

import dataclasses
import doctest
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from model_files import SMALL, VARIANTS, network, save
from pruned_networks import parameters_of

from asr.errors import AsrError
from asr.features.settings import Frontend
from asr.model import file as module
from asr.model import torch_network
from asr.model.dimensions import Model
from asr.model.file import load_model, load_weights, save_model
from asr.model.info import describe
from asr.model.pack import pack
from asr.model.torch_network import DeepSpeech
from asr.sparse import read, write
from asr.text.tokenizer import CharacterTokenizer


@torch.no_grad()
def log_probs(model: DeepSpeech) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(3, 80, 80, generator=generator)
    return model(features, torch.tensor([80, 33, 57]))[0]


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_every_kind_of_network_comes_back_from_dense_and_packed_files(tmp_path, variant):
    model = network(dataclasses.replace(SMALL, **variant))
    expected = log_probs(model)
    path = save(tmp_path / "model.asr", model)
    pack(path, tmp_path / "packed.asr", "fp32")
    for file in ("model.asr", "packed.asr"):
        loaded = load_model(tmp_path / file)
        assert loaded.model.dimensions == model.dimensions
        assert not loaded.model.training
        assert loaded.model.state_dict().keys() == model.state_dict().keys()
        assert torch.equal(log_probs(loaded.model), expected)
    pack(path, tmp_path / "folded.asr", "fp32", fold=True)
    folded = load_model(tmp_path / "folded.asr").model
    assert not folded.dimensions.batch_norm
    assert torch.allclose(log_probs(folded), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(("values", "tolerance"), [("fp16", 0.01), ("int8", 0.3)])
def test_smaller_values_move_log_probabilities_by_little(tmp_path, values, tolerance):
    model = network()
    pack(save(tmp_path / "model.asr", model), tmp_path / "packed.asr", values)
    packed = load_model(tmp_path / "packed.asr").model
    assert 0 < (log_probs(packed) - log_probs(model)).abs().max() < tolerance
    for (name, before), after in zip(
        model.state_dict().items(), packed.state_dict().values(), strict=True
    ):
        assert torch.equal(before == 0, after == 0), name
    assert describe(tmp_path / "packed.asr").values == values


def test_tokenizer_frontend_and_training_come_back(tmp_path):
    frontend = Frontend(low_hertz=50.0, normalise="none")
    extra = {"name": "run 1", "loss": float("nan"), "curve": [[1, 0.5]]}
    save_model(tmp_path / "model.asr", network(), CharacterTokenizer(), frontend, extra)
    loaded = load_model(tmp_path / "model.asr")
    assert loaded.tokenizer == CharacterTokenizer()
    assert loaded.frontend == frontend
    assert loaded.metadata.training == {"name": "run 1", "loss": None, "curve": [[1, 0.5]]}


def test_a_tied_matrix_is_stored_once_and_tied_again(tmp_path):
    tied = network(dataclasses.replace(SMALL, shared_input=True))
    path = save(tmp_path / "model.asr", tied)
    assert describe(path).parameters.elements == parameters_of(tied)
    assert load_weights(path).keys() == tied.state_dict().keys()
    layer = load_model(path).model.rnn[0]
    assert layer.forward_cell.weight_ih_l0 is layer.backward_cell.weight_ih_l0
    pack(path, tmp_path / "packed.asr", fold=True)
    tied_entries = [e for e in describe(tmp_path / "packed.asr").tensors if e.same_as]
    assert [e.name for e in tied_entries] == [
        "rnn.0.backward_cell.weight_ih_l0",
        "rnn.1.backward_cell.weight_ih_l0",
    ]


def test_a_loaded_network_can_be_trained_further(tmp_path):
    model = load_model(save(tmp_path / "model.asr", network())).model.train()
    before = {name: tensor.clone() for name, tensor in model.named_parameters()}
    optimiser = torch.optim.SGD(model.parameters(), lr=1.0)
    result, _ = model(torch.randn(2, 40, 80), torch.tensor([40, 40]))
    (result * torch.randn_like(result)).sum().backward()
    optimiser.step()
    unmoved = [name for name, t in model.named_parameters() if torch.equal(t, before[name])]
    assert unmoved == []


def test_loading_draws_no_random_numbers(tmp_path):
    path = save(tmp_path / "model.asr", network())
    state = torch.random.get_rng_state()
    load_model(path)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_weights_start_another_network_from_either_file(tmp_path):
    model = network()
    path = save(tmp_path / "model.asr", model)
    pack(path, tmp_path / "packed.asr", "fp32")
    for file in (path, tmp_path / "packed.asr"):
        other = DeepSpeech(SMALL)
        other.load_state_dict(load_weights(file))
        assert torch.equal(log_probs(other.eval()), log_probs(model))


@pytest.mark.parametrize(
    ("values", "fraction"), [("int8", 1 / 16), ("fp16", 1 / 8), ("fp32", 1 / 6)]
)
def test_pruned_tensors_shrink_to_a_fraction(tmp_path, values, fraction):
    path = save(tmp_path / "model.asr", network(Model(hidden=128, layers=1)))
    report = pack(path, tmp_path / "packed.asr", values)
    assert report.packed.pruned.sparsity == pytest.approx(0.9, abs=1e-3)
    assert report.packed.pruned.elements == 2 * 384 * (640 + 128)
    assert report.packed.pruned.stored_bytes <= fraction * report.packed.pruned.dense_bytes
    assert report.packed.pruned.dense_bytes == 4 * report.packed.pruned.elements
    assert report.bytes == (tmp_path / "packed.asr").stat().st_size
    assert report.warnings == ()


def test_the_report_shows_the_effect_of_packing_and_when_it_gains_little(tmp_path):
    path = save(tmp_path / "model.asr", network(sparsity=0.2))
    report = pack(path, tmp_path / "packed.asr", "fp32")
    table = report.table()
    assert f"{report.bytes:,} bytes" in table
    assert "rnn.1.backward_cell.weight_hh_l0" in table
    assert "bitmask float32" in table
    assert "warning: only 20% of the parameters are zero: packing gains little" in table


def test_a_model_is_not_packed_onto_itself(tmp_path):
    path = save(tmp_path / "model.asr", network())
    (tmp_path / "link.asr").symlink_to(path)
    before = path.read_bytes()
    with pytest.raises(AsrError, match="is the model itself"):
        pack(path, tmp_path / "link.asr")
    assert path.read_bytes() == before


def test_packing_again_is_the_same(tmp_path):
    path = save(tmp_path / "model.asr", network())
    pack(path, tmp_path / "once.asr")
    pack(tmp_path / "once.asr", tmp_path / "twice.asr")
    assert (tmp_path / "once.asr").read_bytes() == (tmp_path / "twice.asr").read_bytes()


def test_a_description_counts_what_the_network_has(tmp_path):
    model = network()
    path = save(tmp_path / "model.asr", model, {"run": {"name": "one"}, "bell": "\x07\x1b[2J"})
    pack(path, tmp_path / "packed.asr")
    nonzeros = sum(int(p.count_nonzero()) for p in model.parameters())
    for file, values, packed in ((path, "fp32", False), (tmp_path / "packed.asr", "fp16", True)):
        found = describe(file)
        assert (found.values, found.packed) == (values, packed)
        assert found.parameters.elements == parameters_of(model)
        assert found.parameters.nonzeros == nonzeros
        assert found.bytes == file.stat().st_size
        assert found.metadata.model == model.dimensions
        table = found.table()
        assert f"{parameters_of(model):,}, {nonzeros:,} not zero" in table
        assert "29 characters, the blank included" in table
        assert "2 x gru 12, both directions, sum, batch norm" in table
        assert "training.run.name" in table
        assert "\x1b" not in table
        assert "\x07" not in table


def test_tables_are_as_wide_as_their_cells_and_never_wrapped(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    path = save(tmp_path / "model.asr", network(), {"long": "x" * 100_000, "markup": "[red]no[/]"})
    rows, tensors = describe(path).table([("beam search", "in C")]).split("\n\n")
    assert max(map(len, rows.splitlines())) == 400
    assert "beam search      in C" in rows
    assert "[red]no[/]" in rows
    heading, *lines = tensors.splitlines()
    expected = "tensor shape elements nonzeros zeros stored as bytes of dense"
    assert " ".join(heading.split()) == expected
    assert [line.split()[0] for line in lines] == list(network().state_dict())
    assert not any(line.endswith(" ") for line in (*rows.splitlines(), *lines))


def test_describing_and_packing_load_no_torch(tmp_path):
    path = save(tmp_path / "model.asr", network())
    code = (
        "import sys; from asr.model.info import describe; from asr.model.pack import pack\n"
        f"pack({str(path)!r}, {str(tmp_path / 'packed.asr')!r})\n"
        f"print(describe({str(tmp_path / 'packed.asr')!r}).packed)\n"
        "assert not {'torch', 'lightning', 'sentencepiece'} & set(sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.stdout, result.stderr) == ("True\n", "")


def test_the_examples_in_the_docstrings_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for documented in (module, torch_network):
        found = doctest.testmod(documented)
        assert found.attempted
        assert not found.failed


# --- refusals ---


def test_a_training_checkpoint_is_distinguished_from_a_model(tmp_path):
    torch.save({"state_dict": network().state_dict()}, tmp_path / "last.ckpt")
    for reader in (load_model, load_weights, describe):
        with pytest.raises(AsrError, match=r"last\.ckpt: .* use the model\.asr beside it"):
            reader(tmp_path / "last.ckpt")


def test_a_diverged_network_is_not_saved(tmp_path):
    model = network()
    with torch.no_grad():
        model.rnn[0].forward_cell.weight_hh_l0[3, 3] = float("nan")
    with pytest.raises(AsrError, match=r"'rnn\.0\.forward_cell\.weight_hh_l0' holds NaN"):
        save(tmp_path / "model.asr", model)
    assert list(tmp_path.iterdir()) == []


def edited(path: Path, **changes: Any) -> Path:
    """The same file with other metadata; `section__key=value` reaches inside a section."""
    tensors, metadata = read(path)
    for place, value in changes.items():
        *sections, key = place.split("__")
        inner = metadata
        for section in sections:
            inner = inner[section]
        inner[key] = value
    write(path, tensors, metadata, compress=False)
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "other"}, "not a model of asr"),
        ({"more": 1}, "metadata do not fit this version of asr: more: unknown"),
        ({"model": 1}, "model: expected a group of keys, found 1"),
        ({"model": {"hidden": 12}}, r"model\.mels: missing; .*Use the version that wrote the file"),
        ({"model__depth": 3}, r"model\.depth: unknown"),
        ({"model__hidden": "12"}, r"model\.hidden: expected a whole number, found '12'"),
        ({"model__hidden": True}, r"model\.hidden: expected a whole number, found True"),
        ({"model__cell": "transformer"}, r"model\.cell: expected one of \'gru\'"),
        ({"model__conv_kernels": [[11, 5], [5, "5"]]}, r"conv_kernels\[1\]\[1\]: expected a whole"),
        ({"model__hidden": 0}, r"model\.hidden=0: at least 1"),
        ({"frontend__mels": 40}, "takes 80 mels, its frontend makes 40"),
        ({"frontend__sample_rate": 10**400}, "frontend"),
        ({"tokenizer": {}}, "tokenizer has no kind"),
        ({"tokenizer": []}, r"tokenizer: expected a group of keys, found \[\]"),
        ({"packed": "int4"}, r"packed: expected one of .*, found \'int4\'"),
    ],
    ids=str,
)
def test_metadata_that_do_not_fit_are_refused(tmp_path, change, message):
    path = edited(save(tmp_path / "model.asr", network()), **change)
    for reader in (describe, load_model, load_weights):
        with pytest.raises(AsrError, match=message) as error:
            reader(path)
        assert "model.asr" in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model__hidden": 13}, "weights do not fit its dimensions: 'rnn.0"),
        ({"model__hidden": 10**15}, "weights do not fit its dimensions: 'rnn.0"),
        ({"model__layers": 3}, "'rnn.2.* is nothing, needed is float32"),
        ({"model__layers": 1}, r"'rnn\.1\..* needed is nothing"),
        ({"model__layers": 10**9}, "claim 1000000000 layers"),
        ({"model__batch_norm": False}, "'conv.0.convolution.bias' is nothing"),
        ({"model__outputs": 30}, "has 29 tokens, its network 30 outputs"),
        ({"tokenizer": {"kind": "runes"}}, "tokenizer='runes' is unknown"),
        ({"tokenizer": {"kind": "sentencepiece", "model": "AAAA"}}, "not a SentencePiece model"),
    ],
    ids=str,
)
def test_weights_and_tokenizer_must_fit_the_dimensions(tmp_path, change, message):
    path = edited(save(tmp_path / "model.asr", network()), **change)
    with pytest.raises(AsrError, match=message) as error:
        load_model(path)
    assert "model.asr" in str(error.value)


def test_tensors_of_another_type_are_refused(tmp_path):
    path = save(tmp_path / "model.asr", network())
    tensors, metadata = read(path)
    tensors["output.linear.bias"] = np.zeros(29, np.int64)
    write(path, tensors, metadata)
    with pytest.raises(AsrError, match=r"is int64 \(29,\), needed is float32 \(29,\)"):
        load_model(path)


def test_a_flipped_byte_in_the_weights_is_noticed(tmp_path):
    path = save(tmp_path / "model.asr", network())
    content = bytearray(path.read_bytes())
    content[-1000] ^= 4
    path.write_bytes(content)
    for reader in (load_model, load_weights, lambda p: pack(p, tmp_path / "packed.asr")):
        with pytest.raises(AsrError, match="does not match its checksum; get the file again"):
            reader(path)
    assert not (tmp_path / "packed.asr").exists()
