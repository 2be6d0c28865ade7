"""Modules that hold a model whole and give its parameters longer names."""

from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

_WRAPPERS = (AveragedModel, DataParallel, DistributedDataParallel)


def unwrapped(model: nn.Module) -> tuple[nn.Module, str]:
    """The model inside all wrappers, and what its names begin with outside, such as `module.`."""
    prefix = ""
    while leaf := _wraps(model):
        model, prefix = model.get_submodule(leaf), f"{prefix}{leaf}."
    return model, prefix


def _wraps(model: nn.Module) -> str:
    # The class of what torch.compile returns takes seconds to import.
    compiled = "_orig_mod" in dict(model.named_children())
    return "_orig_mod" if compiled else "module" if isinstance(model, _WRAPPERS) else ""
