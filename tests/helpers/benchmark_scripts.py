"""Imports the scripts of recipes/benchmarks, with their `lib` on the path."""

import importlib.util
import sys
from types import ModuleType

from paths import ROOT

FOLDER = ROOT / "recipes" / "benchmarks"
# Appended, so that its scripts do not hide the helpers of the tests.
sys.path.append(str(FOLDER))


def script(name: str) -> ModuleType:
    """Import a script once more."""
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
