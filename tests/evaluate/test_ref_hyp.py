"""Files of references and hypotheses are read back as they were written."""

from pathlib import Path

import pytest

from asr.errors import AsrError
from asr.evaluate.ref_hyp import is_ref_hyp, read, write
from asr.evaluate.wer import Row

ROWS = [
    Row("u1", "s7", "HE HOPED FOR THE STEW", "HE HOPPED THE STEW NOW"),
    Row("u2", "", "RIGHT", "RIGHT"),
    Row("u3", "s7", "", "OH"),
]


def test_the_file_shows_errors_in_columns(tmp_path: Path) -> None:
    write(tmp_path / "runs" / "ref_hyp.txt", ROWS)
    assert (tmp_path / "runs" / "ref_hyp.txt").read_text().splitlines() == [
        "WER 66.67 %, 1 substitution, 1 deletion, 2 insertions in 6 words of 3 utterances; "
        "normalisation en-v1",
        "",
        "u1, speaker s7: WER 60.00 %, 1 substitution, 1 deletion, 1 insertion in 5 words",
        "REF: HE HOPED  FOR THE STEW ***",
        "HYP: HE HOPPED *** THE STEW NOW",
        "ERR: (HOPED->HOPPED) (FOR->*) (*->NOW)",
        "",
        "u2: WER 0.00 %, 0 substitutions, 0 deletions, 0 insertions in 1 word",
        "REF: RIGHT",
        "HYP: RIGHT",
        "",
        "u3, speaker s7: WER 100.00 %, 0 substitutions, 0 deletions, 1 insertion in 0 words",
        "REF: **",
        "HYP: OH",
        "ERR: (*->OH)",
    ]


def test_rows_come_back_as_they_were(tmp_path: Path) -> None:
    rows = [
        *ROWS,
        Row("a, speaker: odd", "b c", "A", ""),
        Row("silence", "s", "", ""),
        Row("x, speaker y", "", "A", "B"),
        Row("x, speaker y", "z", "A", "B"),
        Row("t: WER 5.00 %, 1 substitution", "", "A", "A"),
        Row("p\u2028q", "s\u0085t", "A", "A"),
        Row(" first", "last ", "A", "A"),
    ]
    write(tmp_path / "r.txt", rows)
    assert is_ref_hyp(tmp_path / "r.txt")
    assert read(tmp_path / "r.txt") == rows


@pytest.mark.parametrize(
    ("change", "fragment"),
    [
        (("WER 66", "XER 66"), "not a file of references"),
        (("en-v1", "en-v0"), "normal form en-v0, not en-v1"),
        (("REF: RIGHT\n", ""), r"r\.txt:8: not an utterance"),
        (("u2: WER", "u2 WER"), r"r\.txt:8: not an utterance"),
    ],
)
def test_a_damaged_file_is_refused_by_line(
    tmp_path: Path, change: tuple[str, str], fragment: str
) -> None:
    write(tmp_path / "r.txt", ROWS)
    text = (tmp_path / "r.txt").read_text()
    (tmp_path / "r.txt").write_text(text.replace(*change))
    with pytest.raises(AsrError, match=fragment):
        read(tmp_path / "r.txt")


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    for function in (read, is_ref_hyp):
        with pytest.raises(AsrError, match=r"none\.txt"):
            function(tmp_path / "none.txt")
