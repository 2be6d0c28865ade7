"""Divergence from a teacher and its best transcripts, against values computed one by one."""

import math
from typing import Any

import pytest
import torch

from asr.decode.greedy import decode
from asr.text.tokenizer import CharacterTokenizer
from asr.train import losses
from asr.train.losses import best_sequences, ctc_losses


def frame_divergence(*arguments: Any, **more: Any) -> torch.Tensor:
    """The mean over frames, as a training of one process divides it."""
    total, weights = losses.frame_divergence(*arguments, **more)
    return total / weights.clamp_min(1e-6)


def random_log_probs(seed: int, frames: int = 6, outputs: int = 5, batch: int = 2) -> torch.Tensor:
    draw = torch.randn(batch, frames, outputs, generator=torch.Generator().manual_seed(seed))
    return (2 * draw).log_softmax(-1)


def by_hand(
    student: torch.Tensor, teacher: torch.Tensor, lengths: list[int], t: float, nonblank: bool
) -> float:
    """The definition, frame by frame in plain Python."""
    total = weights = 0.0
    for b, length in enumerate(lengths):
        for f in range(length):
            p = [math.exp(v / t) for v in teacher[b, f].tolist()]
            q = [math.exp(v / t) for v in student[b, f].tolist()]
            p, q = [v / sum(p) for v in p], [v / sum(q) for v in q]
            weight = 1 - math.exp(teacher[b, f, 0].item()) if nonblank else 1.0
            total += weight * sum(x * math.log(x / y) for x, y in zip(p, q, strict=True))
            weights += weight
    return t * t * total / weights


@pytest.mark.parametrize("nonblank", [False, True])
@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_divergence_is_the_definition_over_valid_frames(temperature: float, nonblank: bool) -> None:
    student, teacher = random_log_probs(1), random_log_probs(2)
    got = frame_divergence(student, teacher, torch.tensor([6, 4]), temperature, nonblank)
    assert float(got) == pytest.approx(by_hand(student, teacher, [6, 4], temperature, nonblank))


def test_padding_changes_neither_divergence_nor_gradient() -> None:
    student, teacher = random_log_probs(1).requires_grad_(), random_log_probs(2)
    other = teacher.clone()
    other[1, 4:] = 0.0
    lengths = torch.tensor([6, 4])
    first = frame_divergence(student, teacher, lengths, 2.0)
    first.backward()
    assert first.item() == frame_divergence(student.detach(), other, lengths, 2.0).item()
    assert student.grad is not None
    assert bool((student.grad[1, 4:] == 0).all())
    assert bool((student.grad[1, :4] != 0).all())


def test_equal_networks_have_no_divergence() -> None:
    same = random_log_probs(3)
    assert float(frame_divergence(same, same, torch.tensor([6, 6]), 2.0)) == pytest.approx(0)


def test_gradients_stay_as_large_at_a_high_temperature() -> None:
    sizes = []
    for temperature in (1.0, 8.0):
        logits = (0.1 * random_log_probs(1)).requires_grad_()
        teacher = (0.1 * random_log_probs(2)).log_softmax(-1)
        lengths = torch.tensor([6, 6])
        frame_divergence(logits.log_softmax(-1), teacher, lengths, temperature).backward()
        assert logits.grad is not None
        sizes.append(float(logits.grad.norm()))
    assert sizes[1] == pytest.approx(sizes[0], rel=0.3), "without T^2 it would be a 64th"


def test_a_silent_teacher_gives_a_finite_loss() -> None:
    silent = torch.full((1, 4, 5), -1e9)
    silent[..., 0] = 0.0
    student = random_log_probs(1, 4, 5, 1).requires_grad_()
    loss = frame_divergence(student, silent, torch.tensor([4]), 1.0, nonblank=True)
    loss.backward()
    assert float(loss.detach()) == 0
    assert student.grad is not None
    assert bool(torch.isfinite(student.grad).all())


def test_best_sequences_are_what_greedy_decoding_writes() -> None:
    tokenizer = CharacterTokenizer()
    log_probs = random_log_probs(4, frames=30, outputs=tokenizer.size, batch=5)
    log_probs[:, ::3, 0] += 9  # blanks, so that tokens repeat on both sides of them
    log_probs[:, 1::7] = log_probs[:, :-1:7][:, : log_probs[:, 1::7].shape[1]]
    lengths = torch.tensor([30, 17, 1, 25, 30])
    targets, counts = best_sequences(log_probs, lengths)
    written = [
        tokenizer.decode(t[:n].tolist()) for t, n in zip(targets, counts.tolist(), strict=True)
    ]
    assert written == decode(log_probs.numpy(), lengths.numpy(), tokenizer)
    assert counts[2] == 0, "its only frame is a blank"
    losses = ctc_losses(log_probs, lengths, targets, counts)
    assert bool(torch.isfinite(losses).all()), "they are no longer than their frames"


def test_best_sequences_of_silence_are_empty() -> None:
    log_probs = torch.full((2, 4, 5), -5.0)
    log_probs[..., 0] = 0.0
    targets, counts = best_sequences(log_probs, torch.tensor([4, 2]))
    assert counts.tolist() == [0, 0]
    assert targets.shape == (2, 1)
