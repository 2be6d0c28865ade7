"""Runs the tests of the sparse kernels on an emulated ARM processor (`make test-arm`).

    python tests/helpers/arm.py [options of pytest]
    python tests/helpers/arm.py --python SCRIPT ...      # anything else, in the same Python

The C is compiled by Debian's cross-compiler with the flags of setup.py. An ARM Python of Debian and
ARM wheels of numpy, torch and pytest are unpacked below build/arm, which needs no root and leaves
the system's packages as they are; qemu-user runs them. A second call finds all of it there. Where
something is missing the tests are skipped, and it is said what. An ARM machine needs none of this.

QEMU_CPU=cortex-a72 emulates a processor without dot products of bytes; the default has them.
QEMU_CPU=neoverse-n1 runs recipes/benchmarks/recurrent.py --quick: on the default processor torch's
int8 takes instructions that qemu 7 does not know. Emulated times mean nothing.
"""

import os
import platform
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "build/arm"
COMPILER = "aarch64-linux-gnu-gcc"
EMULATOR = "qemu-aarch64-static"
TOOLS = {COMPILER: "gcc-aarch64-linux-gnu", EMULATOR: "qemu-user-static", "apt-get": "apt"}
TESTS = [
    "tests/sparse/kernels",
    "tests/sparse/test_torch_training.py",
    "tests/model/test_native_convolution.py",
]
DEBIAN = ["python3", "libpython3-stdlib", "libstdc++6"]
# Later ARM wheels of torch bring CUDA. Its dependencies are listed because pip would read them for
# the machine that it runs on.
TORCH = "torch==2.8.*"
PACKAGES = ["pytest", "hypothesis", "typing-extensions", "sympy", "networkx", "jinja2", "fsspec"]
APT = """
APT::Architecture "arm64";
APT::Architectures { "arm64"; };
APT::Sandbox::User "";
Dir::State "{folder}/state";
Dir::State::status "{folder}/state/status";
Dir::Cache "{folder}/cache";
"""


class MissingError(Exception):
    """What this machine lacks."""


def call(command: Sequence[str | Path], **variables: str) -> None:
    """Run a command quietly. Raises MissingError with the end of its output if it fails."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=ROOT,
        env=os.environ | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        end = "\n".join(done.stdout.splitlines()[-5:])
        raise MissingError(f"{' '.join(map(str, command[:3]))} failed:\n{end}")


def unpack_debian(root: Path, work: Path) -> None:
    """An ARM Python with its libraries, from the package sources of this system."""
    for folder in ("state/lists/partial", "cache/archives/partial"):
        (work / folder).mkdir(parents=True, exist_ok=True)
    (work / "state/status").touch()
    settings = work / "apt.conf"
    settings.write_text(APT.replace("{folder}", str(work)))
    apt = ["apt-get", "-qy", "--no-install-recommends"]
    call([*apt, "update"], APT_CONFIG=str(settings))
    call([*apt, "--download-only", "install", *DEBIAN], APT_CONFIG=str(settings))
    for package in sorted((work / "cache/archives").glob("*.deb")):
        call(["dpkg-deb", "--extract", package, root])
    if not (root / "lib").exists():  # Debian links /lib to /usr/lib when it is installed
        (root / "lib").symlink_to("usr/lib")


def python_of(root: Path) -> Path:
    """The unpacked Python; it is named by its version."""
    found = [path for path in (root / "usr/bin").glob("python3.*") if path.suffix[1:].isdigit()]
    if not found:
        raise MissingError(f"no Python in {root}")
    return found[0]


def dependencies() -> list[str]:
    """What the tests import, but for torch."""
    with (ROOT / "pyproject.toml").open("rb") as file:
        return [*tomllib.load(file)["project"]["dependencies"], *PACKAGES]


def install_wheels(python: Path, packages: Path) -> None:
    """What the tests import, for ARM."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    pip += ["--no-compile", "--only-binary=:all:", "--target", str(packages)]
    pip += ["--implementation", "cp", "--python-version", python.name.removeprefix("python")]
    for tag in ("2_28", "2_27", "2_17", "2014"):
        pip += ["--platform", f"manylinux{'_' if '_' in tag else ''}{tag}_aarch64"]
    call([*pip, *dependencies()])
    call([*pip, "--no-deps", TORCH])


def emulated_python() -> Path:
    """A script that runs the ARM Python; it is also that Python's own `sys.executable`."""
    script, ready, root = FOLDER / "python", FOLDER / "ready", FOLDER / "root"
    wanted = "\n".join([TORCH, *dependencies(), *DEBIAN])
    if ready.exists() and ready.read_text() == wanted:
        return script
    shutil.rmtree(FOLDER, ignore_errors=True)
    root.mkdir(parents=True)
    print("unpacking an ARM Python and its packages, once: 0.7 GB below build/arm", flush=True)
    unpack_debian(root, FOLDER / "apt")
    python = python_of(root)
    install_wheels(python, FOLDER / "packages")
    shutil.rmtree(FOLDER / "apt")
    script.write_text(
        f'#!/bin/sh\nPYTHONHOME="{root}/usr" PYTHONPATH="{ROOT}:{FOLDER}/packages" exec '
        f'{EMULATOR} -L "{root}" -0 "{script}" "{python}" "$@"\n'
    )
    script.chmod(0o755)
    call([script, "-c", "import numpy, pytest, torch"])
    ready.write_text(wanted)
    return script


def build() -> Path:
    """The C library of the sparse kernels for ARM, by setup.py."""
    folder = FOLDER / "library"
    command = [sys.executable, "setup.py", "--quiet", "build_ext"]
    command += ["--build-lib", str(folder), "--build-temp", str(folder / "objects")]
    call(command, CC=COMPILER, LDSHARED=f"{COMPILER} -shared")
    found = list(folder.glob("asr/sparse/kernels/_sparse.*"))
    if not found:
        raise SystemExit("the C of the sparse kernels does not compile for ARM; see above")
    return found[0]


def prepare() -> tuple[Path, Mapping[str, str]]:
    """An ARM Python and the environment in which it finds the library."""
    missing = [f"{tool} (Debian's {at})" for tool, at in TOOLS.items() if not shutil.which(tool)]
    if missing:
        raise MissingError(f"this machine has no {', no '.join(missing)}")
    script = emulated_python()
    variables = {"ASR_SPARSE_LIBRARY": str(build()), "OMP_NUM_THREADS": "1"}
    return script, os.environ | variables


def main(arguments: list[str]) -> int:
    """Exit status of pytest or the script; 0 with the reason where the machine lacks something."""
    if platform.machine() in ("aarch64", "arm64"):
        python, environment = Path(sys.executable), os.environ
    else:
        try:
            python, environment = prepare()
        except MissingError as error:
            print(f"skipped the tests on ARM: {error}", file=sys.stderr)
            return 0
    command = ["-m", "pytest", *TESTS, *arguments]
    if arguments[:1] == ["--python"]:
        command = arguments[1:]
    return subprocess.run([python, *command], cwd=ROOT, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
