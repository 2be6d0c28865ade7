"""Losses: CTC (Graves et al. 2006), and how far a student's posteriors are from a teacher's."""

import torch
from torch import Tensor, nn

from asr.model.torch_layers import valid_frames
from asr.text.tokenizer import BLANK


def ctc_losses(
    log_probs: Tensor, lengths: Tensor, targets: Tensor, target_lengths: Tensor
) -> Tensor:
    """CTC loss of each utterance, `(batch,)`, in float32; blank is index 0.

    `log_probs` is `(batch, time, outputs)`, `targets` `(batch, longest)`. An utterance that does
    not fit into its frames has an infinite loss, which the caller must handle.
    """
    return nn.functional.ctc_loss(
        log_probs.float().transpose(0, 1),
        targets,
        lengths,
        target_lengths,
        blank=BLANK,
        reduction="none",
    )


def frame_divergence(
    student: Tensor, teacher: Tensor, lengths: Tensor, temperature: float, nonblank: bool = False
) -> tuple[Tensor, Tensor]:
    """`T^2 * mean_t KL(p_t^T || q_t^T)` over the valid frames of a batch, p the teacher's.

    Returns the mean as a weighted sum over frames and the sum of the weights: divide them, after
    adding each over the processes of a training. Both tensors are `(batch, time, outputs)`
    log-probabilities; `p^T` is `softmax(log p / T)`. T^2 keeps the gradients as large as at T = 1
    (Hinton 2015). `nonblank` weights each frame by `1 - p_t(blank)`, at T = 1, so that the mean is
    over the frames where the teacher writes tokens.
    """
    p = (teacher.float() / temperature).log_softmax(-1)
    q = (student.float() / temperature).log_softmax(-1)
    divergence = nn.functional.kl_div(q, p, reduction="none", log_target=True).sum(-1)
    weights = valid_frames(lengths, student.shape[1]).to(divergence.dtype)
    if nonblank:
        weights = weights * (1 - teacher[..., BLANK].float().exp())
    return temperature**2 * (weights * divergence).sum(), weights.sum()


def best_sequences(log_probs: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """The greedy transcripts as CTC targets: `(batch, longest)` int64 and `(batch,)` lengths.

    Each was read off `lengths` frames, so it always fits into as many.
    """
    best = log_probs.argmax(-1)
    before = nn.functional.pad(best[:, :-1], (1, 0), value=-1)
    valid = valid_frames(lengths, best.shape[1])
    # CTC's reading of a path: repeats are merged, then blanks are dropped.
    written = valid & (best != before) & (best != BLANK)
    counts = written.sum(1)
    targets = best.new_zeros(best.shape[0], max(1, int(counts.max())))
    filled = torch.arange(targets.shape[1], device=best.device)[None] < counts[:, None]
    targets[filled] = best[written]
    return targets, counts
