"""`asr pack`: a model file written again so that its zeros take no room; no torch."""

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path

from asr.errors import AsrError
from asr.files import check_writable
from asr.model.file import naming
from asr.model.fold import fold_tensors
from asr.model.info import (
    WORTH_PACKING,
    Description,
    counts,
    description,
    rows_text,
    tensor_table,
)
from asr.model.metadata import Metadata
from asr.model.shapes import check_shapes
from asr.sparse import read, write
from asr.sparse.formats import Values


@dataclass(frozen=True)
class PackReport:
    """The packed file, and what to know about it."""

    packed: Description
    warnings: tuple[str, ...]

    @property
    def bytes(self) -> int:
        """Of the packed file, with its header."""
        return self.packed.bytes

    @property
    def dense_bytes(self) -> int:
        """Of all tensors in fp32."""
        return self.packed.whole.dense_bytes

    def table(self) -> str:
        """The report for a terminal."""
        packed = self.packed
        gain = f"{packed.bytes / self.dense_bytes:.1%} of its tensors in dense fp32"
        rows = [
            ("file", f"{packed.path}, {packed.bytes:,} bytes, {gain} ({self.dense_bytes:,})"),
            ("weights", f"{packed.values} values"),
            *counts(packed),
        ]
        warnings = [f"warning: {warning}" for warning in self.warnings]
        return "\n".join([rows_text(rows), "", tensor_table(packed.tensors), *warnings])


def pack(
    model_path: str | Path, out_path: str | Path, values: Values = "fp16", fold: bool = False
) -> PackReport:
    """Write the same model to `out_path` with each tensor as small as its zeros allow.

    `values="fp32"` is exact; `"fp16"` halves all tensors but vectors, `"int8"` quarters them with
    one scale for each row. `fold` multiplies the batch norms into the weights: a little smaller
    and faster to run, but not meant to be trained further. Raises AsrError.
    """
    if os.path.exists(out_path) and os.path.realpath(model_path) == os.path.realpath(out_path):
        raise AsrError(f"{out_path}: is the model itself; give the packed file another name")
    check_writable(out_path)
    tensors, plain = read(model_path)
    with naming(model_path):
        metadata = Metadata.from_plain(plain)
        if fold:
            check_shapes(tensors, metadata.model)
            tensors, dimensions = fold_tensors(tensors, metadata.model)
            metadata = dataclasses.replace(metadata, model=dimensions, buffers=[], folded=True)
    metadata = dataclasses.replace(metadata, packed=values)
    header = write(out_path, tensors, metadata.to_plain(), values)
    packed = description(out_path, header, metadata)
    return PackReport(packed, _warnings(packed))


def _warnings(packed: Description) -> tuple[str, ...]:
    zeros = packed.parameters.sparsity
    if zeros >= WORTH_PACKING:
        return ()
    return (
        f"only {zeros:.0%} of the parameters are zero: packing gains little; prune the model while "
        "it trains (pruning.method=threshold_ramp)",
    )
