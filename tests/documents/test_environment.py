"""The guide lists every environment variable that the package reads."""

import re

from paths import ROOT


def test_every_environment_variable_is_in_the_guide() -> None:
    guide = (ROOT / "recipes" / "TRANSCRIBING.md").read_text()
    section = guide.partition("## Environment variables")[2].partition("\n## ")[0]
    code = "".join(path.read_text() for path in (ROOT / "asr").rglob("*.py"))
    names = set(re.findall(r'"(ASR_[A-Z_]+)"', code))
    assert {"ASR_RUNS", "ASR_LEVEL"} <= names
    assert names <= set(re.findall(r"`(ASR_[A-Z_]+)", section))
