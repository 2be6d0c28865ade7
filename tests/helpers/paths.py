"""Paths of the project's own files."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "tests" / "data"
TRAINED = DATA / "spoken.asr"
"""A packed sparse network that `make demo` trained (tests/data/README.md has the command)."""
