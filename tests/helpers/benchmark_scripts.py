"""The scripts of recipes/benchmarks as modules, and their `lib` on the path."""

import importlib.util
import sys
from types import ModuleType

from paths import ROOT

FOLDER = ROOT / "recipes" / "benchmarks"
# At the end: its scripts must not hide the helpers of the tests.
sys.path.append(str(FOLDER))


def script(name: str) -> ModuleType:
    """A script, imported anew."""
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
