"""Bytes on disk: packed sparse files against dense fp32, dense int8 and zipped dense.

    python recipes/benchmarks/sizes.py [--quick] [--again]

One GRU matrix of 5280 x 1760 and whole networks, Gaussian weights pruned by magnitude. They are
compared with the int8 file of the dense network (one scale per row) and with zipped files. Nothing
is timed, so any machine gives the same figures.
"""

import tempfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lib.script import finish, start
from lib.tables import sizes_display
from lib.weights import keep, random_tensors

from asr.model.dimensions import Model
from asr.report.table import Column, Table
from asr.sparse import write
from asr.sparse.csr import Pattern

SPARSITIES = (0.90625, 0.9375)
PATTERNS: tuple[Pattern, ...] = ("element", "bank", "block")
Tensors = Mapping[str, np.ndarray]


def zipped(content: bytes) -> int:
    """Bytes after zlib at its usual level."""
    return len(zlib.compress(content, 6))


def int8(tensors: Tensors) -> bytes:
    """Matrices as int8 with one fp32 scale per row; other tensors unchanged."""
    parts = []
    for tensor in tensors.values():
        if tensor.ndim < 2:
            parts.append(tensor.tobytes())
            continue
        rows = tensor.reshape(len(tensor), -1)
        scale = np.maximum(np.abs(rows).max(axis=1, keepdims=True), 1e-12) / 127
        parts += [
            scale.astype(np.float32).tobytes(),
            np.rint(rows / scale).astype(np.int8).tobytes(),
        ]
    return b"".join(parts)


def dense_bytes(tensors: Tensors) -> list[dict[str, Any]]:
    """Bytes of the dense network in each encoding."""
    fp32 = b"".join(tensor.tobytes() for tensor in tensors.values())
    small = int8(tensors)
    return [
        {"name": "dense fp32", "kind": "dense", "bytes": len(fp32)},
        {"name": "dense fp32, zipped", "kind": "dense", "bytes": zipped(fp32)},
        {"name": "dense int8", "kind": "dense", "bytes": len(small)},
        {"name": "dense int8, zipped", "kind": "dense", "bytes": zipped(small)},
    ]


def sparse_bytes(tensors: Tensors, pattern: Pattern, sparsity: float) -> list[dict[str, Any]]:
    """Of a pruned network: zipped with its zeros, and packed; the whole file, header and all."""
    about = {"kind": "sparse", "pattern": pattern, "sparsity": sparsity}
    fp32 = b"".join(tensor.tobytes() for tensor in tensors.values())
    rows = [{"name": "fp32 with its zeros, zipped", "bytes": zipped(fp32), **about}]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "packed"
        for values in ("fp32", "fp16", "int8"):
            write(path, dict(tensors), {}, values=values)  # type: ignore[arg-type]
            rows.append({"name": f"packed {values}", "bytes": path.stat().st_size, **about})
    return rows


def matrix(rows: int, columns: int, pattern: Pattern | None, sparsity: float) -> Tensors:
    """One Gaussian matrix, pruned."""
    weights = np.random.default_rng(5).standard_normal((rows, columns), np.float32)
    return {"w": weights if pattern is None else weights * keep(weights, pattern, sparsity)}


def main(arguments: Sequence[str]) -> int:
    script = start("sizes", __doc__ or "", sizes_display, arguments, timed=False)
    shape = (96, 64) if script.quick else (5280, 1760)
    networks = {"2x32": (2, 32)} if script.quick else {"3x512": (3, 512), "5x800": (5, 800)}
    makers: dict[str, Any] = {f"{shape[0]}x{shape[1]}": lambda p, s: matrix(*shape, p, s)}
    for size, (layers, hidden) in networks.items():
        dimensions = Model(layers=layers, hidden=hidden, batch_norm=False)
        makers[f"network {size}"] = lambda p, s, d=dimensions: random_tensors(d, p, s)
    for key, make in makers.items():
        if script.done(key):
            continue
        results = dense_bytes(make(None, 0.0))
        for pattern in PATTERNS:
            for sparsity in SPARSITIES[: 1 if script.quick else 2]:
                results += sparse_bytes(make(pattern, sparsity), pattern, sparsity)
        script.record.add(key, {"what": key, "results": results}, None)
        show(key, results)
    return 0


def show(key: str, results: Sequence[Mapping[str, Any]]) -> None:
    """Print bytes, and how many times smaller than dense fp32 they are."""
    cells = tuple(
        (
            row["name"],
            row.get("pattern", ""),
            f"{100 * row['sparsity']:.4g}" if "sparsity" in row else "",
            f"{row['bytes']:,}",
            f"{results[0]['bytes'] / row['bytes']:.1f}x",
        )
        for row in results
    )
    numbers = ("zeros, %", "bytes", "smaller than dense fp32")
    columns = (Column(key, numeric=False), Column("pattern", numeric=False), *map(Column, numbers))
    print(f"\n{Table(key, columns, cells).text()}")


if __name__ == "__main__":
    finish(main)
