"""The LightningModule's parts: loss, learning rate, optimiser groups, invalid losses."""

import jiwer
import pytest
import torch

from asr.decode.greedy import decode
from asr.model.dimensions import Model
from asr.model.torch_network import DeepSpeech
from asr.settings.training import OptimiserSettings
from asr.text.tokenizer import CharacterTokenizer
from asr.train.batches import Batch
from asr.train.losses import ctc_losses
from asr.train.module import InvalidLoss, SpeechTraining, build_optimiser, learning_rate_factor


def module(invalid_loss: str = "stop") -> SpeechTraining:
    torch.manual_seed(1)
    model = DeepSpeech(Model(hidden=8, layers=1, conv_channels=[2, 2]))
    return SpeechTraining(model, CharacterTokenizer(), OptimiserSettings(), 10, invalid_loss)


def batch(tokens: int) -> Batch:
    """Two utterances of 100 frames (25 output frames), the second with `tokens` tokens."""
    targets = torch.zeros(2, max(3, tokens), dtype=torch.long)
    targets[0, :3] = torch.tensor([3, 4, 5])
    targets[1, :tokens] = torch.arange(tokens) % 26 + 3
    features = torch.randn(2, 100, 80, generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([100, 100])
    return Batch(features, lengths, targets, torch.tensor([3, tokens]), ["first", "second"], 2.0)


def test_ctc_loss_equals_the_sum_over_all_alignments() -> None:
    log_probs = torch.randn(1, 3, 4, generator=torch.Generator().manual_seed(0)).log_softmax(-1)
    paths = [(1, 0, 2), (0, 1, 2), (1, 2, 0), (1, 1, 2), (1, 2, 2)]
    scores = [sum(float(log_probs[0, t, k]) for t, k in enumerate(p)) for p in paths]
    wanted = -torch.tensor(scores, dtype=torch.float64).logsumexp(0)
    got = ctc_losses(log_probs, torch.tensor([3]), torch.tensor([[1, 2]]), torch.tensor([2]))
    assert float(got[0]) == pytest.approx(float(wanted), abs=1e-5)


@pytest.mark.parametrize(
    ("step", "decay", "factor"),
    [
        (0, "cosine", 0.1), (9, "cosine", 1.0), (10, "cosine", 1.0), (55, "cosine", 0.51),
        (100, "cosine", 0.02), (55, "linear", 0.51), (99, "constant", 1.0),
    ],
)  # fmt: skip
def test_learning_rate_climbs_and_falls(step: int, decay: str, factor: float) -> None:
    settings = OptimiserSettings(warmup=0.1, decay=decay, final_fraction=0.02)  # type: ignore[arg-type]
    assert learning_rate_factor(step, 100, settings) == pytest.approx(factor, abs=1e-6)


@pytest.mark.parametrize("name", ["adamw", "nesterov"])
def test_weight_decay_does_not_apply_to_biases_and_norms(name: str) -> None:
    model = module().model
    optimiser = build_optimiser(model, OptimiserSettings(name=name, weight_decay=0.1))  # type: ignore[arg-type]
    decayed, spared = optimiser.param_groups
    assert {p.dim() for p in spared["params"]} == {1}
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.1, 0.0)
    together = sum(p.numel() for g in optimiser.param_groups for p in g["params"])
    assert together == sum(p.numel() for p in model.parameters())


def test_loss_of_a_batch_is_per_token() -> None:
    training = module()
    training.log = lambda *a, **k: None  # type: ignore[method-assign,assignment]
    one = batch(5)
    log_probs, lengths = training.model(one.features, one.feature_lengths)
    wanted = ctc_losses(log_probs, lengths, one.targets, one.target_lengths).sum().item() / 8
    loss = training.training_step(batch(5), 0)
    assert loss is not None
    assert loss["train_loss"].item() == loss["loss"].item()
    assert loss["loss"].item() == pytest.approx(wanted, rel=1e-5)


def test_validation_counts_words_and_errors_as_jiwer_does() -> None:
    training = module().eval()
    one = batch(5)
    with torch.no_grad():
        training.model.output.linear.bias[5] = 10.0  # so that something is written
        log_probs, lengths = training.model(one.features, one.feature_lengths)
        training.validation_step(one, 0)
        training.validation_step(one, 1)
    texts = decode(log_probs.numpy(), lengths.numpy(), training.tokenizer)
    references = [
        training.tokenizer.decode(target[:length].tolist())
        for target, length in zip(one.targets, one.target_lengths, strict=True)
    ]
    counts = jiwer.process_words(references, texts)
    errors = counts.substitutions + counts.deletions + counts.insertions
    words = counts.hits + counts.substitutions + counts.deletions
    assert errors > 0
    assert (training._dev["errors"], training._dev["words"]) == (2 * errors, 2 * words)


def test_an_infinite_loss_names_the_utterance_and_stops() -> None:
    training = module()
    with pytest.raises(InvalidLoss, match=r"second \(inf\)") as error:
        training.training_step(batch(30), 0)
    assert "first" not in str(error.value)
    assert training.invalid_batch is not None


def test_an_infinite_loss_is_skipped_on_request_but_not_forever() -> None:
    training = module("skip")
    for _ in range(19):
        assert training.training_step(batch(30), 0) is None
    assert len(training.skipped) == 19
    with pytest.raises(InvalidLoss, match="the weights are broken"):
        training.training_step(batch(30), 0)
