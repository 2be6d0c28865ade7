"""What a trained teacher adds to the CTC loss of a student, on the same augmented batch.

CTC posteriors are spikes between blanks, and nothing ties the spike of a token to a frame: two good
networks write it at different frames. `frame` is the naive baseline for that reason, `nonblank`
counts mostly the frames where the teacher writes tokens, `sequence` needs no alignment at all.
"""

import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from asr.errors import AsrError
from asr.features.settings import Frontend
from asr.model.file import TorchModel, load_model
from asr.model.torch_network import DeepSpeech
from asr.settings.training import DistillationSettings
from asr.text.tokenizer import Tokenizer
from asr.train.losses import best_sequences, ctc_losses, frame_divergence


class Teacher:
    """A trained network in evaluation mode, and the loss with which a student follows it.

    Not a submodule of the training module: it is neither trained, nor saved into the checkpoint,
    nor counted. The student's loss is `(1 - weight) * CTC + weight * this`.

    Raises:
        AsrError: if teacher and student differ in tokens, stride or features.
    """

    def __init__(
        self,
        teacher: TorchModel,
        settings: DistillationSettings,
        student: DeepSpeech,
        tokenizer: Tokenizer,
        frontend: Frontend,
    ) -> None:
        _check(teacher, student, tokenizer, frontend, settings.teacher)
        self.settings = settings
        self.model = teacher.model.eval().requires_grad_(False)
        # A teacher that writes nothing but blanks in a whole batch must not divide by zero.
        self.least = 1.0 if settings.kind == "sequence" else 1e-6
        """The count that a loss is divided by is at least this."""
        self.digest = _digest(self.model)
        """Of the teacher's weights: a resumed training must continue with the same teacher."""

    @classmethod
    def load(
        cls,
        settings: DistillationSettings,
        student: DeepSpeech,
        tokenizer: Tokenizer,
        frontend: Frontend,
    ) -> "Teacher":
        """With the teacher of the model file `settings.teacher`, dense or packed."""
        return cls(load_model(settings.teacher), settings, student, tokenizer, frontend)

    def loss(
        self, features: Tensor, feature_lengths: Tensor, log_probs: Tensor, lengths: Tensor
    ) -> tuple[Tensor, Tensor]:
        """How far the student's `log_probs (batch, time, outputs)` are from the teacher's.

        A sum and what to divide it by: for `frame` and `nonblank` a number of frames, for
        `sequence`, the CTC loss of the teacher's greedy transcripts, their number of tokens.
        """
        if next(self.model.parameters()).device != features.device:
            self.model.to(features.device)
        with torch.no_grad():
            taught, _ = self.model(features, feature_lengths)
        if self.settings.kind == "sequence":
            targets, counts = best_sequences(taught, lengths)
            losses = ctc_losses(log_probs, lengths, targets, counts)
            return losses.sum(), counts.sum()
        nonblank = self.settings.kind == "nonblank"
        return frame_divergence(log_probs, taught, lengths, self.settings.temperature, nonblank)

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint: which teacher it was."""
        return {"teacher": self.digest}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """AsrError if the training was begun with other weights of the teacher."""
        if state["teacher"] != self.digest:
            raise AsrError(
                f"distillation.teacher={self.settings.teacher} has other weights than when this "
                "training began: restore the old file, or train under another name (name=...)"
            )

    def to_plain(self) -> dict[str, Any]:
        """For the record of a run; the teacher's name without the folders of this machine."""
        return {
            "teacher": "/".join(Path(self.settings.teacher).parts[-2:]),
            "kind": self.settings.kind,
            "weight": self.settings.weight,
            "temperature": self.settings.temperature,
        }


def _digest(model: DeepSpeech) -> str:
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _check(
    teacher: TorchModel, student: DeepSpeech, tokenizer: Tokenizer, frontend: Frontend, name: str
) -> None:
    problems = []
    if teacher.tokenizer.tokens != tokenizer.tokens:
        problems.append(
            f"its tokens are different ({teacher.tokenizer.kind}, {teacher.tokenizer.size}; the "
            f"student has {tokenizer.kind}, {tokenizer.size}), so its outputs mean something "
            "else. Tokenizers that two runs learn differ: give both the same tokenizer.file"
        )
    theirs, ours = teacher.model.dimensions.time_stride, student.dimensions.time_stride
    if theirs != ours:
        problems.append(
            f"one output frame is {theirs} of its input frames and {ours} of the student's; make "
            "model.conv_strides equal in time"
        )
    if teacher.frontend != frontend:
        problems.append(f"its features are different: {teacher.frontend} against {frontend}")
    if problems:
        raise AsrError(
            f"distillation.teacher={name} cannot teach this network:\n  " + "\n  ".join(problems)
        )
