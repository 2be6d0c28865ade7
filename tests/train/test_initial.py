"""A training from `init` has its features, dimensions and tokens; anything else is refused."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from asr.errors import AsrError
from asr.features.settings import Frontend
from asr.model.dimensions import Model
from asr.model.file import load_model, save_model
from asr.model.pack import pack
from asr.model.torch_network import DeepSpeech
from asr.pretrained import registry
from asr.settings.run import Run
from asr.settings.yaml import load
from asr.text.tokenizer import CharacterTokenizer, Tokenizer, train_sentencepiece
from asr.train.initial import (
    check_initial,
    read_settings,
    start_from_init,
    tokenizer_of_init,
    zeros_that_are_lost,
)

SIZE = Model(mels=40, hidden=12, layers=2, conv_channels=[2, 4], dropout=0.2)
FRONTEND = Frontend(mels=40, normalise="utterance")
TEXTS = ["THE QUICK BROWN FOX JUMPS OVER THE LAZY DOG", "PACK MY BOX WITH FIVE DOZEN LIQUOR JUGS"]


def save(path: Path, tokenizer: Tokenizer, zeros: Sequence[str] = ("rnn",)) -> Path:
    """A network; of the tensors whose names begin so, every second column is zero."""
    torch.manual_seed(3)
    model = DeepSpeech(replace(SIZE, outputs=tokenizer.size))
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if ".weight" in name and weight.dim() > 1 and name.startswith(tuple(zeros)):
                weight[:, ::2] = 0
    save_model(path, model, tokenizer, FRONTEND)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("initial")
    (folder / "recipe.yaml").write_text("optimiser: {learning_rate: 1.0e-4}\n")
    save(folder / "characters.asr", CharacterTokenizer())
    tokenizer = train_sentencepiece(TEXTS, 40, folder / "tokens.model")
    save(folder / "pieces.asr", tokenizer)
    return folder


def settings(folder: Path, *words: str) -> Run:
    return read_settings(folder / "recipe.yaml", words)


@pytest.mark.parametrize("name", ["characters", "pieces"])
def test_what_a_recipe_leaves_out_is_that_of_the_model(folder: Path, name: str) -> None:
    found = settings(folder, f"init={folder / name}.asr", "model.dropout=0.4")
    assert found.frontend == FRONTEND
    assert (found.model.hidden, found.model.layers, found.model.dropout) == (12, 2, 0.4)
    assert found.optimiser.learning_rate == 1e-4
    check_initial(found)
    tokenizer = tokenizer_of_init(found)
    assert tokenizer == load_model(folder / f"{name}.asr").tokenizer
    assert found.tokenizer.kind == tokenizer.kind
    if name == "pieces":
        assert found.tokenizer.size == tokenizer.size - 1 == 40


def test_a_name_is_as_good_as_a_file(folder: Path) -> None:
    found = settings(folder, "init=english")
    check_initial(found)
    assert found.model.hidden == load_model(registry.resolve("english")).model.dimensions.hidden


def test_without_init_nothing_changes(folder: Path) -> None:
    words = ["optimiser.learning_rate=1e-3"]
    assert settings(folder, *words) == load(Run, folder / "recipe.yaml", words)
    assert tokenizer_of_init(Run()) is None


@pytest.mark.parametrize(
    ("words", "fragment"),
    [
        (["frontend.normalise=speech"], r"frontend\.normalise=speech: it has utterance"),
        (["frontend.high_hertz=7000"], r"frontend\.high_hertz=7000.0: it has 7600.0"),
        (["model.hidden=16"], r"model\.hidden=16: it has 12\n.*asr train then takes them"),
        (["model.mels=80", "frontend.mels=80"], r"frontend\.mels=80: it has 40"),
        (["tokenizer.kind=sentencepiece"], r"tokenizer\.kind=sentencepiece.*init_output=new"),
    ],
)
def test_another_network_than_that_of_the_model_is_refused(
    folder: Path, words: list[str], fragment: str
) -> None:
    found = settings(folder, f"init={folder}/characters.asr", *words)
    with pytest.raises(AsrError, match=fragment):
        check_initial(found)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["tokenizer.kind=characters"], "tokenizer.kind=characters"),
        (["tokenizer.kind=sentencepiece", "tokenizer.size=41"], "tokenizer.size=41"),
        (["tokenizer.kind=sentencepiece", "tokenizer.file=OTHER"], "tokenizer.file="),
    ],
)
def test_another_tokenizer_is_refused_with_both_ways_out(
    folder: Path, tmp_path: Path, words: list[str], named: str
) -> None:
    train_sentencepiece(reversed(TEXTS * 3), 39, tmp_path / "other.model")
    words = [word.replace("OTHER", str(tmp_path / "other.model")) for word in words]
    found = settings(folder, f"init={folder}/pieces.asr", *words)
    with pytest.raises(AsrError) as error:
        check_initial(found)
    for part in (named, "sentencepiece, 41 tokens", "Leave `tokenizer` out", "init_output=new"):
        assert part in str(error.value)
    same = f"tokenizer.file={folder}/tokens.model"
    check_initial(
        settings(folder, f"init={folder}/pieces.asr", "tokenizer.kind=sentencepiece", same)
    )


def test_a_new_output_layer_is_all_that_is_new(folder: Path) -> None:
    words = [f"init={folder}/characters.asr", "init_output=new", "tokenizer.kind=sentencepiece"]
    found = settings(folder, *words, "tokenizer.size=50", "model.outputs=51")
    assert tokenizer_of_init(found) is None
    torch.manual_seed(1)
    model = DeepSpeech(found.model)
    fresh = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    start_from_init(model, found)
    before = load_model(folder / "characters.asr").model.state_dict()
    for name, tensor in model.state_dict().items():
        expected = fresh if name.startswith("output.linear.") else before
        assert torch.equal(tensor, expected[name]), name
    assert model.state_dict()["output.linear.weight"].shape[0] == 51


def test_a_new_output_layer_of_no_model_is_refused() -> None:
    with pytest.raises(AsrError, match="init_output=new changes the network of init=FILE"):
        load(Run, None, ["init_output=new"])


def test_a_model_with_folded_norms_is_refused(folder: Path) -> None:
    pack(folder / "characters.asr", folder / "folded.asr", fold=True)
    with pytest.raises(AsrError, match=r"norms were folded .* without --fold"):
        check_initial(settings(folder, f"init={folder}/folded.asr"))


@pytest.mark.parametrize(
    ("zeros", "words", "told"),
    [
        (["rnn"], [], "pruning.method=fixed_mask keeps them"),
        (["rnn"], ["pruning.method=fixed_mask"], ""),
        (["rnn", "output"], ["pruning.method=fixed_mask"], "name them in pruning.tensors"),
        (["rnn", "output"], ["pruning.method=fixed_mask", "pruning.tensors=['*']"], ""),
        ([], [], ""),
    ],
)
def test_zeros_that_a_training_fills_are_told(
    tmp_path: Path, zeros: list[str], words: list[str], told: str
) -> None:
    (tmp_path / "recipe.yaml").write_text("")
    path = save(tmp_path / "model.asr", CharacterTokenizer(), zeros or ["none"])
    found = settings(tmp_path, f"init={path}", *words)
    text = zeros_that_are_lost(load_model(path).model, found)
    assert told in text
    assert bool(text) == bool(told)


def test_a_dense_model_has_no_zeros_to_keep(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("")
    path = save(tmp_path / "model.asr", CharacterTokenizer(), ["none"])
    found = settings(tmp_path, f"init={path}", "pruning.method=fixed_mask")
    with pytest.raises(AsrError, match=r"rnn\* is zero.* pruning\.method=none trains it dense"):
        zeros_that_are_lost(load_model(path).model, found)


def test_an_init_that_is_no_model_is_refused(folder: Path) -> None:
    with pytest.raises(AsrError, match="no such model file"):
        settings(folder, "init=missing.asr")
    with pytest.raises(AsrError, match="neither a file nor the name of a model"):
        settings(folder, "init=germna")
