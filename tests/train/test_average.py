"""The moving average of the weights: values, start, unchanged tensors, errors."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from asr.errors import AsrError
from asr.model.dimensions import Model
from asr.model.torch_network import DeepSpeech
from asr.settings.run import Run
from asr.settings.training import OptimiserSettings
from asr.settings.yaml import load
from asr.text.tokenizer import CharacterTokenizer
from asr.train.average import WeightAveraging, average_of, decay_after
from asr.train.batches import Batch
from asr.train.module import SpeechTraining

SMALL = Model(hidden=8, layers=2, conv_channels=[2, 2], shared_input=True)


def network() -> DeepSpeech:
    torch.manual_seed(1)
    return DeepSpeech(SMALL)


def step(model: DeepSpeech, number: int) -> None:
    """Change every weight, and give the batch norms some input."""
    torch.manual_seed(number)
    with torch.no_grad():
        model(torch.randn(3, 40, 80), torch.tensor([40, 30, 20]))
        for weight in model.parameters():
            weight.add_(torch.randn_like(weight))


def test_the_average_is_the_one_computed_by_hand() -> None:
    model = network()
    average = average_of(model, 0.25)
    assert [decay_after(n, 0.25) for n in (1, 2, 3)] == [2 / 11, 0.25, 0.25]
    states = []
    for number in range(4):
        step(model, number)
        average.update_parameters(model)
        states.append({k: v.clone().double() for k, v in model.state_dict().items()})
    for name, mine in average.module.state_dict().items():
        a, b, c, d = (state[name] for state in states)
        wanted = a * 2 / 11 + b * 9 / 11
        wanted = 0.25 * (0.25 * wanted + 0.75 * c) + 0.75 * d
        if name.endswith("num_batches_tracked"):
            wanted = d
        assert torch.allclose(mine.double(), wanted, atol=1e-6), name
    layer = average.module.get_submodule("rnn.0")
    assert layer.backward_cell.weight_ih_l0 is layer.forward_cell.weight_ih_l0  # type: ignore[union-attr]


def test_the_average_forgets_fast_at_first_and_later_with_the_decay_that_is_set() -> None:
    assert decay_after(1, 0.999) == pytest.approx(2 / 11)
    assert decay_after(90, 0.999) == pytest.approx(0.91)
    assert decay_after(100_000, 0.999) == 0.999


def test_one_optimiser_step_counts_once_and_new_masks_restart_the_average() -> None:
    model, masks = network(), []
    average = average_of(model, 0.9)
    callback = WeightAveraging(average, model, lambda: trainer.global_step in masks)
    trainer: Any = SimpleNamespace(global_step=0)
    module: Any = None

    def batch(number: int, stepped: bool) -> None:
        step(model, number)
        trainer.global_step += stepped
        callback.on_train_batch_end(trainer, module, None, None, 0)

    callback.on_train_start(trainer, module)
    for number, stepped in enumerate([False, True, False, True]):
        batch(number, stepped)
    assert int(average.n_averaged) == 2
    weight = "rnn.0.forward_cell.weight_hh_l0"
    assert not torch.equal(average.module.get_parameter(weight), model.get_parameter(weight))
    masks.append(3)
    batch(5, True)
    assert int(average.n_averaged) == 1
    state = model.state_dict()
    assert all(torch.equal(state[k], v) for k, v in average.module.state_dict().items())


def test_the_average_is_what_is_validated_and_never_what_is_trained() -> None:
    targets = torch.tensor([[3, 4, 5]])
    batch = Batch(
        torch.randn(1, 100, 80, generator=torch.Generator().manual_seed(0)),
        torch.tensor([100]), targets, torch.tensor([3]), ["one"], 1.0,
    )  # fmt: skip
    model = network()
    average = average_of(model, 0.9)
    step(model, 7)  # the average follows slowly
    losses = []
    for training in (
        SpeechTraining(model, CharacterTokenizer(), OptimiserSettings(), 10, average=average),
        SpeechTraining(model, CharacterTokenizer(), OptimiserSettings(), 10),
        SpeechTraining(network(), CharacterTokenizer(), OptimiserSettings(), 10),
    ):
        training.eval()
        with torch.no_grad():
            training.validation_step(batch, 0)
        losses.append(training._dev["loss"])
    assert losses[0] == losses[2] != losses[1]
    training = SpeechTraining(model, CharacterTokenizer(), OptimiserSettings(), 10, average=average)
    training.log = lambda *a, **k: None  # type: ignore[method-assign,assignment]
    training.train()
    before = {k: v.clone() for k, v in average.state_dict().items()}
    found = training.training_step(batch, 0)
    assert found is not None
    found["loss"].backward()
    assert all(weight.grad is None for weight in average.parameters())
    assert all(torch.equal(before[k], v) for k, v in average.state_dict().items())
    trained = {w for g in training.configure_optimizers()["optimizer"].param_groups
               for w in g["params"]}  # fmt: skip
    assert trained == set(model.parameters())


@pytest.mark.parametrize("value", ["1", "1.5", "-0.1", "nan"])
def test_a_value_that_is_not_a_decay_is_refused(value: str) -> None:
    refused = r"training\.average(=.*: a decay below 1|: expected a number)"
    with pytest.raises(AsrError, match=refused):
        load(Run, None, [f"training.average={value}"])
