"""Runs the tests of sparse kernels and features with their C under sanitizers.

`make test-sanitize`: the libraries are built into a temporary folder with AddressSanitizer and
UndefinedBehaviorSanitizer, and loaded from there through ASR_SPARSE_LIBRARY and
ASR_FEATURES_LIBRARY. Needs gcc.
"""

import os
import subprocess
import sys
import tempfile
from glob import glob
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TESTS = [
    "tests/sparse/kernels/test_perm8.py",
    "tests/sparse/kernels/test_products.py",
    "tests/sparse/kernels/test_recurrent.py",
    "tests/sparse/test_torch_training.py",
    "tests/model/test_native_convolution.py",
    "tests/features/test_native.py",
]
SOURCES = {
    "ASR_SPARSE_LIBRARY": "asr/sparse/kernels/c/*.c",
    "ASR_FEATURES_LIBRARY": "asr/features/c/*.c",
}
FLAGS = [
    *("-O1", "-g", "-std=gnu11", "-fPIC", "-shared", "-fvisibility=hidden"),
    *("-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"),
]


def runtime(compiler: str, name: str) -> str:
    """Path of a library that comes with the compiler."""
    command = [compiler, f"-print-file-name={name}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def main() -> int:
    """Exit status of pytest; 1 with a message without a compiler."""
    compiler = os.environ.get("CC", "gcc")
    with tempfile.TemporaryDirectory() as folder:
        libraries = {variable: f"{folder}/{variable}.so" for variable in SOURCES}
        try:
            for variable, pattern in SOURCES.items():
                sources = sorted(glob(str(ROOT / pattern)))
                command = [compiler, *FLAGS, *sources, "-lm", "-o", libraries[variable]]
                subprocess.run(command, check=True)
            preload = [runtime(compiler, name) for name in ("libasan.so", "libubsan.so")]
        except (OSError, subprocess.CalledProcessError) as error:
            print(f"the sanitizers need gcc: {error}", file=sys.stderr)
            return 1
        environment = (
            os.environ
            | libraries
            | {
                "LD_PRELOAD": " ".join(preload),
                # Python itself never frees some of its memory.
                "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1",
                "UBSAN_OPTIONS": "print_stacktrace=1",
                "OMP_NUM_THREADS": "1",
                "PYTHONMALLOC": "malloc",
            }
        )
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *TESTS, *sys.argv[1:]], cwd=ROOT, env=environment
        )
        return done.returncode


if __name__ == "__main__":
    sys.exit(main())
