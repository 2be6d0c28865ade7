"""Checkpoints of torch and Lightning, read safely; damaged ones are named."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from asr.errors import AsrError

if TYPE_CHECKING:
    import torch


def read_checkpoint(path: Path) -> Any:
    """What `torch.load` finds in a file, with `weights_only`. Raises AsrError if it is damaged."""
    import torch

    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        # torch reads the weights without looking at their checksums.
        if zipfile.is_zipfile(path) and (damaged := zipfile.ZipFile(path).testzip()):
            raise ValueError(f"the checksum of {damaged} in it differs")
        return content
    except Exception as error:  # damage shows as an error of pickle, zip, torch or any of Python's
        first = str(error).partition("\n")[0] or type(error).__name__
        raise AsrError(f"{path}: not a checkpoint that can be read safely: {first}") from None


def check_resume_point(path: Path, module: "torch.nn.Module") -> None:
    """AsrError, with what to do, if a training cannot be resumed from a file that is there."""
    advice = (
        "remove it to train from the beginning, or put back a whole copy; it is written anew at "
        "each epoch"
    )
    try:
        content = read_checkpoint(path)
    except AsrError as error:
        raise AsrError(f"{error}; {advice}") from None
    parts = {"state_dict", "optimizer_states", "lr_schedulers", "loops", "callbacks", "epoch"}
    if not isinstance(content, Mapping) or not parts <= content.keys():
        raise AsrError(f"{path}: not a checkpoint of a training; {advice}")
    there = {name: value.shape for name, value in content["state_dict"].items()}
    if there != {name: value.shape for name, value in module.state_dict().items()}:
        raise AsrError(f"{path}: a checkpoint of another network; {advice}")
