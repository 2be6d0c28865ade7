"""The compiled parts of the package, which are optional: without a compiler the rest is installed.

`python setup.py build_ext --inplace` builds them beside their sources. A copy of `asr/sparse` alone
can be built the same way.
"""

import os
from glob import glob

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

WINDOWS = os.name == "nt"
# Contracted sums of products would differ from Python's in the last bit.
EXACT = [] if WINDOWS else ["-O2", "-std=c99", "-ffp-contract=off", "-fvisibility=hidden"]
FAST = [] if WINDOWS else ["-O3", "-g0", "-std=gnu11", "-fno-math-errno", "-fvisibility=hidden"]


class BuildLibrary(build_ext):
    """Builds plain C libraries for ctypes, which are not Python modules."""

    def get_export_symbols(self, ext: Extension) -> list[str]:
        """None: the C marks what it exports, and has no `PyInit_` for a Windows linker to find."""
        return list(ext.export_symbols)


def library(name: str, sources: list[str], flags: list[str]) -> Extension:
    """One library; its headers lie beside its sources."""
    return Extension(
        name,
        sorted(sources),
        depends=[header for source in sources for header in glob(f"{os.path.dirname(source)}/*.h")],
        extra_compile_args=flags,
        libraries=[] if WINDOWS else ["m"],
        optional=True,
        # It uses nothing of Python, so every version can load it.
        py_limited_api=True,
    )


setup(
    cmdclass={"build_ext": BuildLibrary},
    ext_modules=[
        library("asr.decode._beam", ["asr/decode/beam.c"], EXACT),
        library("asr.features._features", ["asr/features/c/features.c"], FAST),
        library("asr.sparse.kernels._sparse", glob("asr/sparse/kernels/c/*.c"), FAST),
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
