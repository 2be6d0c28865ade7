"""Chooses the kernel for a matrix: one table of kernels and one pure function.

The choice is by measurements that were made once, not at run time: a choice that changed from run
to run would change transcripts. `recipes/benchmarks/instruction_sets.py` measures it again.
"""

from dataclasses import dataclass
from typing import Literal

from asr.errors import AsrError
from asr.sparse.csr import Pattern
from asr.sparse.kernels.library import ARM, LEVELS, includes

Values = Literal["auto", "fp32", "fp16", "int8"]

DENSE = 0.3
"""Below this sparsity all elements are stored: skipping zeros would cost more than it saves."""
DENSE_EXACT = {"plain": DENSE, "avx2": 0.65, "avx2vnni": 0.65}
"""The same for fp32 by instruction set, whose sparse kernel is slower; with AVX-512 it is 0.6."""


@dataclass(frozen=True)
class Kernel:
    """One way to lay out and multiply a matrix."""

    patterns: tuple[Pattern, ...]
    """Patterns that it stores without extra zeros."""
    levels: tuple[str, ...]
    """Instruction sets that it has code for, the best of x86 and of ARM last; empty: not in C."""
    values: Literal["fp32", "fp16", "int8"]
    """Precision of a weight: about 24, 11 or 8 bits."""
    error: float
    """Largest error of an output, relative to the sum of |weight x input| over its row, with the
    row's largest weight and the largest input in place of each."""

    def runs_on(self, level: str) -> bool:
        """Whether it has code that a processor with this instruction set runs."""
        return any(includes(level, name) for name in self.levels)


ANY: tuple[Pattern, ...] = ("element", "bank", "block")

KERNELS: dict[str, Kernel] = {
    # 16-bit words of weight and column; 64 columns of the input in two registers.
    "perm16": Kernel(("element", "bank"), ("avx512bw", "avx512vnni"), "fp16", 2e-3),
    # 8-bit weights and inputs; 32 columns in two registers of bytes.
    "perm8": Kernel(("element", "bank"), ("plain", "avx2", "avx2vnni", *ARM), "int8", 6e-3),
    # fp32 weights whose lowest bits are the column; 32 (AVX2: 16) columns in two registers.
    "perm32": Kernel(("element", "bank"), ("avx2", "avx512f"), "fp32", 2e-6),
    # 16 rows at once. Its fp32 and fp16 code gains nothing from levels above avx512f.
    "block16-fp32": Kernel(("block",), ("plain", "avx2", "avx512f", "neon"), "fp32", 1e-6),
    "block16-fp16": Kernel(("block",), ("plain", "avx2", "avx512f", "neon"), "fp16", 5e-4),
    "block16-int8": Kernel(("block",), (*LEVELS[:2], *LEVELS[4:]), "int8", 6e-3),
    # Element by element.
    "csr": Kernel(ANY, ("plain", "neon"), "fp32", 1e-6),
    # Without the C library: a dense product.
    "numpy": Kernel(ANY, (), "fp32", 1e-6),
}


def choose(
    pattern: Pattern,
    sparsity: float,
    level: str | None,
    values: Values = "auto",
    exact: bool = False,
) -> str:
    """Name of the fastest kernel for a matrix; `level=None`: there is no C library.

    `values` is the lowest precision allowed (`auto`: fp16, but int8 for element and bank patterns
    with AVX2 and NEON, which have nothing fast for 16 bits); `exact` requires fp32. Raises
    AsrError for unknown names.
    """
    if level is None:
        return "numpy"
    if level not in LEVELS:
        raise AsrError(f"instruction set {level!r}: there are {', '.join(LEVELS)}")
    if values not in ("auto", "fp32", "fp16", "int8"):
        raise AsrError(f"values {values!r}: there are auto, fp32, fp16, int8")
    if exact or (values == "auto" and sparsity < DENSE):
        values = "fp32"
    dense = DENSE_EXACT.get(level, 0.6) if values == "fp32" else DENSE
    if pattern == "block" or sparsity < dense:
        if values == "auto":
            values = "fp32" if level == "plain" else "fp16"
        return f"block16-{values}"
    if values != "fp32" and level in KERNELS["perm16"].levels:
        return "perm16"
    if values in ("auto", "int8") and level in ("avx2", "avx2vnni", *ARM):
        return "perm8"
    return "csr" if level in ("plain", *ARM) else "perm32"
