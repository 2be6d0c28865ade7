"""Language models as other programs write them, cut, damaged, or not ARPA at all."""

import bz2
import gzip
import lzma
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from paths import ROOT

from asr.decode.lm.open import open_lm
from asr.errors import AsrError

ARPA = """\
\\data\\
ngram 1=6
ngram 2=4

\\1-grams:
-1.0\t<s>\t-0.3
-1.0\t</s>
-2.0\t<unk>\t0
-0.8\tONE\t-0.2
-0.9\tTWO\t-0.2
-1.0\tTHREE\t-0.2

\\2-grams:
-0.3\t<s> ONE
-0.4\tONE TWO
-0.3\tTWO THREE
-0.2\tTHREE </s>

\\end\\
"""
EXPECTED = [-0.3, -0.4, -0.3, -0.2]
SHARED = ROOT.parent / "shared" / "faults"


def logs(path) -> list[float]:
    return [log / math.log(10) for log, _ in open_lm(path).sentence("ONE TWO THREE")]


def logs_or_message(path) -> list[float] | str:
    try:
        return logs(path)
    except AsrError as error:
        return str(error)


READ = {
    "a byte order mark": lambda text: b"\xef\xbb\xbf" + text,
    "line ends of Windows": lambda text: text.replace(b"\n", b"\r\n"),
    "no blank line anywhere, as IRSTLM writes": lambda text: text.replace(b"\n\n", b"\n"),
    "tabs and spaces around counts": lambda text: text.replace(b"1=6", b" 1= \t 6"),
    "blank lines between counts": lambda text: text.replace(b"\nngram", b"\n\nngram"),
    "blank lines within a section": lambda text: text.replace(b"-0.9\t", b"\n \n-0.9\t"),
    "comments before": lambda text: b"made by hand\n\nversion 2\n" + text,
    "text behind the end": lambda text: text + b"and so on\n",
    "spaces for tabs": lambda text: text.replace(b"\t", b"  "),
    "<UNK>": lambda text: text.replace(b"<unk>", b"<UNK>"),
    "<S> and </S>": lambda text: text.replace(b"<s>", b"<S>").replace(b"</s>", b"</S>"),
    "the start of a sentence never occurs": lambda text: text.replace(b"-1.0\t<s>", b"-inf\t<s>"),
    "a probability of 1 that was rounded up": lambda text: text.replace(b"-1.0\t<s>", b"2e-7\t<s>"),
    "gzip": gzip.compress,
    "gzip in two parts": lambda text: gzip.compress(text[:90]) + gzip.compress(text[90:]),
    "xz": lzma.compress,
}


@pytest.mark.parametrize("how", READ.values(), ids=READ)
def test_a_model_of_another_program_gives_its_scores(how, tmp_path):
    path = tmp_path / "m.arpa"
    path.write_bytes(how(ARPA.encode()))
    assert logs(path) == pytest.approx(EXPECTED, abs=1e-6)


def test_the_unknown_word_of_other_programs_is_ours(tmp_path):
    path = tmp_path / "m.arpa"
    for name in ("<unk>", "<UNK>"):
        path.write_text(ARPA.replace("<unk>", name))
        model = open_lm(path)
        assert model.score(0, model.word("FOUR"))[0] == pytest.approx(-2 * math.log(10))


@pytest.mark.parametrize(
    ("old", "new", "fragment"),
    [
        ("-0.9\tTWO", "nan\tTWO", ":10: expected a number for the log10 prob"),
        ("-0.9\tTWO", "NaN\tTWO", ":10: expected a number"),
        ("-0.9\tTWO", "inf\tTWO", ":10: expected a number"),
        ("-0.9\tTWO", "0.9\tTWO", ":10: a log10 probability of 0.9 is above 0"),
        ("-0.4\tONE", "3\tONE", ":15: a log10 probability of 3 is above 0"),
        ("-0.4\tONE", "-0,4\tONE", ":15: expected a number"),
        ("TWO\t-0.2", "TWO\tnan", ":10: expected a number for the back-off"),
        ("TWO\t-0.2", "TWO\t1e300", ":10: expected a number for the back-off"),
        ("-0.8\tONE\t-0.2", "-0.8\t<UNK>\t-0.2", "listed twice, as <unk> and as <UNK>"),
        ("ngram 2=4", "ngram 2=5", ":19: .2-grams: ends here"),
        ("ngram 2=4", "ngram 2=3", ":17: expected .end., found '-0.2"),
        ("ngram 2=4", "ngram 2=99999999999999", ":19: .2-grams: ends here"),
        ("ngram 2=4", "ngram 2=-4", ":3: expected ngram 2=COUNT"),
        ("-1.0\t</s>\n", "-1.0\tEND\n", "m.arpa: .*</s> is not|'</s>' is not a word"),
    ],
)
def test_what_is_wrong_with_a_model_is_said_with_its_line(old, new, fragment, tmp_path):
    assert old in ARPA
    path = tmp_path / "m.arpa"
    path.write_text(ARPA.replace(old, new, 1))
    with pytest.raises(AsrError, match=fragment):
        open_lm(path)


FOREIGN = {
    "KenLM's binary": (b"mmap lm http://kheafield.com/code format version 5\n\0\0", "KenLM"),
    "SRILM's binary": (b"SRILM_BINARY_NGRAM_002\n\0", "SRILM"),
    "IRSTLM's binary": (b"blmt 3 10 20 30\n\0", "compile-lm"),
    "IRSTLM's iARPA": (b"iARPA\n\n\\data\\\n", "compile-lm"),
    "UTF-16": (ARPA.encode("utf-16"), "in UTF-16"),
    "UTF-16 without a mark": (ARPA.encode("utf-16-le"), "zero bytes"),
    "UTF-32": (ARPA.encode("utf-32"), "in UTF-32"),
    "Latin-1": (ARPA.replace("ONE", "ÜN").encode("latin-1"), ":9: .* is not UTF-8"),
    "bzip2": (bz2.compress(ARPA.encode()), "not an ARPA file|zero bytes"),
    "a text": (b"ONE TWO THREE\n", ":1: no line"),
    "nothing": (b"", "no line"),
    "the header of a picture": (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "m.arpa:"),
}


@pytest.mark.parametrize(("content", "fragment"), FOREIGN.values(), ids=FOREIGN)
def test_a_file_of_another_kind_is_named(content, fragment, tmp_path):
    path = tmp_path / "m.arpa"
    path.write_bytes(content)
    with pytest.raises(AsrError, match=fragment):
        open_lm(path)


@pytest.mark.parametrize("size", range(0, len(ARPA) - 2, 7))
def test_a_model_that_is_cut_anywhere_is_refused_with_a_line(size, tmp_path):
    path = tmp_path / "m.arpa"
    path.write_text(ARPA[: min(size, ARPA.index("\\end\\") + 4)])
    with pytest.raises(AsrError, match=r"m\.arpa:\d+: "):
        open_lm(path)


@pytest.mark.parametrize("compress", [gzip.compress, lzma.compress], ids=["gzip", "xz"])
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_damaged_or_cut_compressed_model_is_read_whole_or_refused(
    compress, data, tmp_path_factory
):
    content = bytearray(compress(ARPA.encode()))
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    for _ in range(data.draw(st.integers(0, 2))):
        if content:
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("lm") / "m.arpa.gz"
    path.write_bytes(content)
    found = logs_or_message(path)
    assert "m.arpa.gz" in found or found == pytest.approx(EXPECTED, abs=1e-6)


@settings(max_examples=300, deadline=None)
@given(
    place=st.integers(0, len(ARPA) - 1),
    length=st.integers(0, 12),
    new=st.one_of(st.binary(max_size=8), st.sampled_from([b"nan", b"-inf", b"1e999", b"\\", b"="])),
)
def test_a_changed_model_is_refused_with_its_name_or_has_finite_scores(
    place, length, new, tmp_path_factory
):
    path = tmp_path_factory.mktemp("lm") / "m.arpa"
    path.write_bytes(ARPA.encode()[:place] + new + ARPA.encode()[place + length :])
    found = logs_or_message(path)
    assert "m.arpa" in found or np.isfinite(found).all()


@pytest.mark.skipif(not SHARED.is_dir(), reason="the folder of shared inputs is not here")
@pytest.mark.parametrize("name", ["bom.arpa", "irstlm.arpa"])
def test_shared_models_of_other_programs_are_read(name):
    assert logs(SHARED / name) == pytest.approx(EXPECTED, abs=1e-6)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the folder of shared inputs is not here")
def test_a_shared_model_cut_after_its_counts_is_refused():
    with pytest.raises(AsrError, match=r"cut_after_counts\.arpa:3: .*truncated"):
        open_lm(SHARED / "cut_after_counts.arpa")
