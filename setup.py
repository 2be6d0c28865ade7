"""The compiled part of the package, which is optional: without a compiler the rest is installed.

`python setup.py build_ext --inplace` builds it beside its source.
"""

import os
from glob import glob

from setuptools import Extension, setup

# Contracted sums of products would differ from Python's in the last bit.
flags = [] if os.name == "nt" else ["-O2", "-std=c99", "-ffp-contract=off", "-fvisibility=hidden"]
fast = ["-O3", "-g0", "-std=gnu11", "-fno-math-errno", "-fvisibility=hidden"]
fast = [] if os.name == "nt" else fast

setup(
    ext_modules=[
        Extension(
            "asr.decode._beam",
            ["asr/decode/beam.c"],
            depends=["asr/decode/beam_scoring.h"],
            extra_compile_args=flags,
            libraries=[] if os.name == "nt" else ["m"],
            export_symbols=["asr_beam_search", "asr_native_version"],
            optional=True,
            # Loaded with ctypes, it knows no version of Python.
            py_limited_api=True,
        ),
        Extension(
            "asr.sparse.kernels._sparse",
            sorted(glob("asr/sparse/kernels/c/*.c")),
            depends=glob("asr/sparse/kernels/c/*.h"),
            extra_compile_args=fast,
            libraries=[] if os.name == "nt" else ["m"],
            optional=True,
            py_limited_api=True,
        ),
    ],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
