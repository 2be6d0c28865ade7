"""What a model file holds, for `asr info` and `asr pack`: from its header alone, without torch.

A tied weight counts once. Two fractions of zeros have two names: that of the pruned tensors, and
that of all parameters of the model.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from asr.model.file import naming
from asr.model.metadata import Metadata
from asr.sparse import Header, TensorEntry, read_header
from asr.sparse.formats import Values

PRUNED_FROM = 0.1
"""A tensor of two or more dimensions counts as pruned from this fraction of zeros on."""
WORTH_PACKING = 0.5
"""With a smaller fraction of zeros in the whole model, packing gains little."""
TABLE_WIDTH = 10_000
"""Columns a table may take, so that rich neither wraps nor crops it."""
LINE_LIMIT = 400
"""Characters of a line that holds values from a file."""


@dataclass(frozen=True)
class Count:
    """Sums over tensors; a tied one counts once."""

    elements: int
    nonzeros: int
    stored_bytes: int
    dense_bytes: int
    """The same tensors uncompressed, in fp32 if they are float."""

    @classmethod
    def of(cls, entries: Iterable[TensorEntry]) -> "Count":
        """The sums over these entries of a header."""
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
    def ratio(self) -> float:
        """Stored bytes over dense bytes."""
        return self.stored_bytes / self.dense_bytes if self.dense_bytes else 1.0


@dataclass(frozen=True)
class Description:
    """What a model file holds, from its header alone; `table()` prints it."""

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
        """Whether the file was written by `asr pack`."""
        return self.metadata.packed is not None

    @property
    def values(self) -> Values:
        """How weights are stored."""
        return self.metadata.packed or "fp32"

    def table(self, others: Sequence[tuple[str, str]] = ()) -> str:
        """The description for a terminal; `others` are more rows on what would run the file."""
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
            *counts(self),
            *_backend(self),
            *others,
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
        return "\n".join([rows_text(rows), "", tensor_table(self.tensors)])


def describe(path: str | Path) -> Description:
    """Describe a model file without torch and without reading its weights.

    Raises AsrError for what is not a model file, and for a damaged header.
    """
    header = read_header(path)
    with naming(path):
        metadata = Metadata.from_plain(header.metadata)
    return description(path, header, metadata)


def description(path: str | Path, header: Header, metadata: Metadata) -> Description:
    """The description of a file from its header, which has been read."""
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


def _backend(description: Description) -> list[tuple[str, str]]:
    """What would run the file on this machine."""
    from asr.model.native_kernels import native_library, summary

    if not description.packed:
        return [("backend", "torch; native where that is not installed")]
    return [("backend", f"native, {native_library()}"), ("kernels", summary(description.tensors))]


def counts(description: Description) -> list[tuple[str, str]]:
    """Rows of a table: parameters, and the pruned tensors where there are any."""
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
                f"{pruned.stored_bytes:,} bytes, {_ratio(pruned.ratio)} of dense fp32",
            )
        )
    return rows


def tensor_table(entries: Iterable[TensorEntry]) -> str:
    """One line per tensor: shape, zeros, and how it is stored."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("tensor", "shape", "elements", "nonzeros", "zeros", "stored as", "bytes"):
        left = heading in ("tensor", "shape", "stored as")
        table.add_column(heading, justify="left" if left else "right", no_wrap=True)
    table.add_column("of dense", justify="right", no_wrap=True)
    for entry in entries:
        layout = entry.layout
        count = Count.of([entry])
        stored = (f"tied to {entry.same_as}", "", "")
        if not entry.same_as:
            banks = " in banks" if layout.pattern == "bank" else ""
            how = f"{layout.encoding} {layout.values}{banks}"
            stored = (how, f"{layout.stored_bytes:,}", _ratio(count.ratio))
        cells = (
            entry.name,
            "x".join(map(str, layout.shape)) or "scalar",
            f"{layout.elements:,}",
            f"{layout.nonzeros:,}",
            f"{1 - layout.nonzeros / layout.elements if layout.elements else 0:.1%}",
            *stored,
        )
        table.add_row(*map(Text, cells))
    return _text(table)


def rows_text(rows: Iterable[tuple[str, str]]) -> str:
    """Two columns, keys and values.

    Values from a file may hold anything: what is not printable, such as the codes that move a
    terminal's cursor, becomes a question mark, and long ones are cropped.
    """
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    for row in rows:
        table.add_row(*(Text(_printable(cell)) for cell in row))
    return "\n".join(line[:LINE_LIMIT] for line in _text(table).splitlines())


def _text(table: Table) -> str:
    """A table as plain lines, as wide as its cells: readable in a file as on a terminal."""
    text = StringIO()
    Console(file=text, width=TABLE_WIDTH, color_system=None).print(table)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text[:LINE_LIMIT])


def _ratio(ratio: float) -> str:
    """`1/8.0` for an eighth."""
    return f"1/{1 / ratio:.1f}" if 0 < ratio < 1 else f"{ratio:.2f}"


def _flat(value: Any, key: str) -> list[tuple[str, str]]:
    if isinstance(value, dict):
        return [row for name, item in value.items() for row in _flat(item, f"{key}.{name}")]
    return [(key, str(value))]
