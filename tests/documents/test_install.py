"""What documents and messages say about installing."""

import re
from itertools import chain

from paths import ROOT


def test_nobody_is_told_to_install_the_asr_of_pypi_which_is_another_project() -> None:
    paths = chain(
        ROOT.glob("*.md"),
        ROOT.glob("data/*.md"),
        ROOT.glob("recipes/*.md"),
        ROOT.glob("asr/**/*.py"),
    )
    told = [path for path in paths if re.search(r"pip install '?asr\b", path.read_text())]
    assert not told
