"""Which kernel runs which tensor of a model file on this machine, from its header alone."""

from collections.abc import Iterable
from typing import cast

from asr.model.native_convolution import VALUES, dense_name, rounds, sparse_pays
from asr.sparse.csr import Pattern
from asr.sparse.header import TensorEntry
from asr.sparse.kernels import LEVELS, Values, choose, level, library

_KINDS = {
    "convolution.weight": "convolutions",
    "weight_ih_l0": "input weights",
    "weight_hh_l0": "recurrent weights",
    "linear.weight": "output",
}


def native_library() -> str:
    """What the native backend computes with: `C library, avx512vnni`, or numpy and why."""
    if library() is None:
        return "numpy alone, slow: the C library was not built or ASR_NATIVE=0 forbids it"
    return f"C library, {LEVELS[level()]}"


def compiled() -> bool:
    """Whether the C library is used; without it the native backend computes in numpy."""
    return library() is not None


def kernels(tensors: Iterable[TensorEntry], exact: bool = False) -> dict[str, str]:
    """The kernel of each weight tensor of a packed file, by its name; tied ones once.

    Equal to `Network.describe()` of the loaded file, but for blocks of weights too small for fp16,
    which run in fp32.
    """
    found = {}
    for entry in tensors:
        kind, layout = _kind(entry.name), entry.layout
        if kind is None or entry.same_as:
            continue
        rows, columns = layout.matrix
        zeros = 1.0 - layout.kept / max(rows * columns, 1)
        if kind == "convolutions" and not sparse_pays(zeros, columns):
            found[entry.name] = dense_name(level(), rounds(level(), exact))
            continue
        pattern = cast(Pattern, layout.pattern)  # checked when the header was read
        here = LEVELS[level()] if library() else None
        values: Values = VALUES if kind == "convolutions" else "auto"
        found[entry.name] = choose(pattern, zeros, here, values, exact or kind == "output")
    return found


def summary(tensors: Iterable[TensorEntry]) -> str:
    """Kernels by the kind of tensor, in one line."""
    kinds: dict[str, set[str]] = {}
    for name, kernel in kernels(tensors).items():
        kinds.setdefault(_kind(name) or "", set()).add(kernel)
    return "; ".join(f"{kind}: {' and '.join(sorted(names))}" for kind, names in kinds.items())


def _kind(name: str) -> str | None:
    return next((kind for end, kind in _KINDS.items() if name.endswith(end)), None)
