"""What a model file holds and what packing made of it, for `asr info` and `asr pack`; no torch.

Counts never mean the same tensor twice: tied weights count once. Two shares of zeros have two
names: of the pruned tensors, and of all parameters of the model.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asr.errors import AsrError
from asr.model.metadata import Metadata
from asr.sparse import Header, TensorEntry, read_header
from asr.sparse.formats import Values

PRUNED_FROM = 0.1
"""A tensor of two or more dimensions counts as pruned from this share of zeros on."""
WORTH_PACKING = 0.5
"""With a smaller share of zeros in the whole model, packing gains little."""


@dataclass(frozen=True)
class Count:
    """Sums over tensors, each stored one once."""

    elements: int
    nonzeros: int
    stored_bytes: int
    dense_bytes: int
    """The same tensors uncompressed, in fp32 if they are float."""

    @classmethod
    def of(cls, entries: Iterable[TensorEntry]) -> "Count":
        layouts = [entry.layout for entry in entries if not entry.same_as]
        return cls(
            elements=sum(layout.elements for layout in layouts),
            nonzeros=sum(layout.nonzeros for layout in layouts),
            stored_bytes=sum(layout.stored_bytes for layout in layouts),
            dense_bytes=sum(layout.dense_bytes for layout in layouts),
        )

    @property
    def sparsity(self) -> float:
        """Zeros over elements."""
        return 1 - self.nonzeros / self.elements if self.elements else 0.0

    @property
    def share(self) -> float:
        """Stored bytes over dense bytes."""
        return self.stored_bytes / self.dense_bytes if self.dense_bytes else 1.0


@dataclass(frozen=True)
class Description:
    """What a model file holds, from its header alone."""

    path: str
    bytes: int
    version: int
    metadata: Metadata
    tensors: tuple[TensorEntry, ...]
    """Parameters and buffers, tied ones under each of their names."""
    whole: Count
    """All tensors, buffers included."""
    parameters: Count
    """What was trained: `parameters.elements`, `parameters.nonzeros`, `parameters.sparsity`."""
    pruned: Count
    """Tensors of two or more dimensions with at least a tenth of zeros."""

    @property
    def packed(self) -> bool:
        return self.metadata.packed is not None

    @property
    def values(self) -> Values:
        """How weights are stored."""
        return self.metadata.packed or "fp32"

    def table(self) -> str:
        """The description for a terminal."""
        m, f = self.metadata.model, self.metadata.frontend
        directions = f"both directions, {m.combine}" if m.bidirectional else "forward only"
        tied = ", one input matrix for both" if m.shared_input else ""
        norm = "batch norm" if m.batch_norm else "no batch norm"
        norm = "batch norm folded into the weights" if self.metadata.folded else norm
        kernels = [
            f"{k[0]}x{k[1]} to {c} channels, stride {s[0]}x{s[1]}"
            for k, c, s in zip(m.conv_kernels, m.conv_channels, m.conv_strides, strict=True)
        ]
        rows = [
            ("file", f"{self.path}, {self.bytes:,} bytes, format version {self.version}"),
            ("weights", f"{'packed' if self.packed else 'dense'}, {self.values} values"),
            *_counts(self),
            *_engine(self),
            ("convolutions", "; ".join(kernels)),
            ("recurrent", f"{m.layers} x {m.cell} {m.hidden}, {directions}{tied}, {norm}"),
            ("tokenizer", f"{m.outputs} {self.metadata.tokenizer['kind']}, the blank included"),
            (
                "frontend",
                f"{f.mels} mels from {f.low_hertz:g} to {f.high_hertz:g} Hz at {f.sample_rate} Hz,"
                f" window {1000 * f.window_seconds:g} ms, step {1000 * f.step_seconds:g} ms,"
                f" normalise {f.normalise}",
            ),
            *_flat(self.metadata.training, "training"),
        ]
        return "\n".join([*_aligned(rows), "", *_tensor_rows(self.tensors)])


@dataclass(frozen=True)
class PackReport:
    """What packing made of a model."""

    packed: Description
    warnings: tuple[str, ...]

    @property
    def bytes(self) -> int:
        """Of the packed file, header and all."""
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
            *_counts(packed),
        ]
        warnings = [f"warning: {warning}" for warning in self.warnings]
        return "\n".join([*_aligned(rows), "", *_tensor_rows(packed.tensors), *warnings])


def describe(path: str | Path) -> Description:
    """Describe a model file without torch and without reading its weights.

    Raises AsrError for what is no model file, and for a damaged header.
    """
    header = read_header(path)
    try:
        metadata = Metadata.from_plain(header.metadata)
    except AsrError as error:
        raise AsrError(f"{path}: {error}") from None
    return description(path, header, metadata)


def description(path: str | Path, header: Header, metadata: Metadata) -> Description:
    """The description of a file whose header has been read."""
    buffers = set(metadata.buffers)
    return Description(
        path=str(path),
        bytes=header.file_bytes,
        version=header.version,
        metadata=metadata,
        tensors=header.tensors,
        whole=Count.of(header.tensors),
        parameters=Count.of(e for e in header.tensors if e.name not in buffers),
        pruned=Count.of(
            e
            for e in header.tensors
            if len(e.layout.shape) >= 2
            and e.layout.nonzeros <= (1 - PRUNED_FROM) * e.layout.elements
        ),
    )


def pack_report(packed: Description) -> PackReport:
    """The report on a file that was just packed."""
    warnings = []
    if packed.parameters.sparsity < WORTH_PACKING:
        warnings.append(
            f"only {packed.parameters.sparsity:.0%} of the parameters are zero: packing gains "
            "little; prune the model while it trains (pruning.method=threshold_ramp)"
        )
    return PackReport(packed, tuple(warnings))


def _engine(description: Description) -> list[tuple[str, str]]:
    """What would run the file on this machine."""
    from asr.decode.library import native
    from asr.model import native_kernels as plan

    rows = [("beam search", f"in {native()}")]
    if not description.packed:
        return [("backend", "torch; native where that is not installed"), *rows]
    return [
        ("backend", f"native, {plan.native_library()}"),
        ("kernels", plan.summary(description.tensors)),
        *rows,
    ]


def _counts(description: Description) -> list[tuple[str, str]]:
    parameters, pruned = description.parameters, description.pruned
    rows = [
        (
            "parameters",
            f"{parameters.elements:,}, {parameters.nonzeros:,} not zero "
            f"({parameters.sparsity:.1%} zeros)",
        )
    ]
    if pruned.elements:
        rows.append(
            (
                "pruned",
                f"{pruned.elements:,}, {pruned.nonzeros:,} not zero ({pruned.sparsity:.1%} zeros), "
                f"{pruned.stored_bytes:,} bytes, {_fraction(pruned.share)} of dense fp32",
            )
        )
    return rows


def _tensor_rows(entries: Iterable[TensorEntry]) -> list[str]:
    rows = [("tensor", "shape", "elements", "nonzeros", "zeros", "stored as", "bytes", "of dense")]
    for entry in entries:
        layout = entry.layout
        count = Count.of([entry])
        stored = (f"tied to {entry.same_as}", "", "")
        if not entry.same_as:
            banks = " in banks" if layout.pattern == "bank" else ""
            how = f"{layout.encoding} {layout.values}{banks}"
            stored = (how, f"{layout.stored_bytes:,}", _fraction(count.share))
        rows.append(
            (
                entry.name,
                "x".join(map(str, layout.shape)) or "scalar",
                f"{layout.elements:,}",
                f"{layout.nonzeros:,}",
                f"{1 - layout.nonzeros / layout.elements if layout.elements else 0:.1%}",
                *stored,
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    left = (0, 1, 5)
    return [
        "  ".join(
            f"{cell:<{width}}" if i in left else f"{cell:>{width}}"
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _fraction(share: float) -> str:
    return f"1/{1 / share:.1f}" if 0 < share < 1 else f"{share:.2f}"


def _flat(value: Any, key: str) -> list[tuple[str, str]]:
    if isinstance(value, dict):
        return [row for name, item in value.items() for row in _flat(item, f"{key}.{name}")]
    return [(key, str(value))]


def _aligned(rows: list[tuple[str, str]]) -> list[str]:
    """Rows as lines; text from the file may hold anything, so nothing unprintable gets out."""
    width = max(len(key) for key, _ in rows) + 2
    lines = (f"{key:{width}}{value}" for key, value in rows)
    return ["".join(c if c.isprintable() else "?" for c in line)[:400] for line in lines]
