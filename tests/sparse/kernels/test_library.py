"""The compiled libraries are plain C for ctypes and not Python modules, also on Windows."""

import importlib
import runpy
import shutil
import subprocess
from pathlib import Path

import pytest

from asr.decode import library as beam
from asr.sparse.kernels import library

ROOT = Path(__file__).resolve().parents[3]
SOURCES = [*sorted((ROOT / "asr/sparse/kernels/c").glob("*.c")), ROOT / "asr/decode/beam.c"]
GCC = shutil.which("gcc")

# All of the standard library that the sources use, declared without extensions of GCC and clang.
HEADERS = {
    "stddef.h": "typedef unsigned long long size_t;\n#define NULL ((void *)0)\n",
    "stdint.h": "".join(
        f"typedef {sign}{kind} {letter}int{bits}_t;\n"
        for bits, kind in ((8, "char"), (16, "short"), (32, "int"), (64, "long long"))
        for sign, letter in (("signed ", ""), ("unsigned ", "u"))
    ),
    "stdlib.h": '#include "stddef.h"\nvoid *malloc(size_t); void *calloc(size_t, size_t);\n'
    "void *realloc(void *, size_t); void free(void *);\n"
    "void qsort(void *, size_t, size_t, int (*)(const void *, const void *));\n",
    "malloc.h": '#include "stddef.h"\nvoid *_aligned_malloc(size_t, size_t);\n'
    "void _aligned_free(void *);\n",
    "string.h": '#include "stddef.h"\nvoid *memcpy(void *, const void *, size_t);\n'
    "void *memset(void *, int, size_t); void *memmove(void *, const void *, size_t);\n"
    "int memcmp(const void *, const void *, size_t);\n",
    "math.h": "#define INFINITY (1e30f * 1e30f)\n#define NAN (INFINITY * 0.0f)\n"
    "double fabs(double); float fabsf(float); long lrint(double); float rintf(float);\n"
    "float ldexpf(float, int); double exp(double); double log(double); double log1p(double);\n",
}


@pytest.mark.skipif(not (library() and beam.library()), reason="the C libraries were not built")
@pytest.mark.parametrize("name", ["asr.sparse.kernels._sparse", "asr.decode._beam"])
def test_a_library_is_not_imported_as_a_module(name):
    with pytest.raises(ImportError, match="PyInit_"):
        importlib.import_module(name)


def test_the_build_asks_a_windows_linker_for_no_module_function(monkeypatch):
    setuptools = pytest.importorskip("setuptools")
    given = {}
    monkeypatch.setattr(setuptools, "setup", lambda **arguments: given.update(arguments))
    monkeypatch.chdir(ROOT)
    runpy.run_path("setup.py")
    build = given["cmdclass"]["build_ext"](setuptools.Distribution())
    names = [extension.name for extension in given["ext_modules"]]
    assert names == ["asr.decode._beam", "asr.features._features", "asr.sparse.kernels._sparse"]
    for extension in given["ext_modules"]:
        assert build.get_export_symbols(extension) == []
        assert all(path in extension.depends for path in map(str, _headers(extension.sources)))


def _headers(sources: list[str]) -> list[Path]:
    return [path for folder in {Path(s).parent for s in sources} for path in folder.glob("*.h")]


@pytest.mark.skipif(GCC is None, reason="no gcc")
def test_the_plain_kernels_are_standard_c_for_compilers_that_are_not_gcc_or_clang(tmp_path):
    for name, text in HEADERS.items():
        (tmp_path / name).write_text(
            f"#ifndef {name[:-2]}_H\n#define {name[:-2]}_H\n{text}#endif\n"
        )
    microsoft = ["-D_WIN32", "-D_MSC_VER=1940", "-D__declspec(x)=", "-D__forceinline=inline"]
    gnu = ["-U__GNUC__", "-D__attribute__(x)=not_standard_c"]
    strict = ["-std=c11", "-pedantic-errors", "-fno-builtin", "-fsyntax-only", "-nostdinc"]
    command = [GCC, *strict, *gnu, *microsoft, "-I", str(tmp_path), *map(str, SOURCES)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
