"""The tokenizers of characters and of SentencePiece."""

import json
import pickle
import random
import string
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.errors import AsrError
from asr.text.normalise import normalise
from asr.text.tokenizer import (
    CharacterTokenizer,
    SentencePieceTokenizer,
    Tokenizer,
    UnknownCharacters,
    load_tokenizer_file,
    train_sentencepiece,
)

WORDS = "THE OLD SAILOR DON'T SING WHERE WINTER WATER RUNS UNDER A BRIDGE OF STONE".split()  # noqa: SIM905
SOON = settings(deadline=None, derandomize=True)


def sentences(count: int = 200) -> list[str]:
    draw = random.Random(3)
    return [" ".join(draw.choices(WORDS, k=7)) for _ in range(count)]


@pytest.fixture(scope="module")
def bpe(tmp_path_factory: pytest.TempPathFactory) -> SentencePieceTokenizer:
    return train_sentencepiece(sentences(), 50, tmp_path_factory.mktemp("tokenizer") / "bpe.model")


@SOON
@given(st.text(alphabet=string.ascii_letters + string.punctuation + " \u2019\u2014", max_size=40))
def test_characters_encode_and_decode_every_normal_form_they_know(text: str) -> None:
    tokenizer, normal = CharacterTokenizer(), normalise(text)
    unknown = sorted(set(normal) - set(tokenizer.tokens))
    if unknown:
        with pytest.raises(UnknownCharacters) as caught:
            tokenizer.encode(normal)
        assert caught.value.characters == unknown
    else:
        assert tokenizer.decode(tokenizer.encode(normal)) == normal


def test_characters_are_blank_space_apostrophe_and_a_to_z() -> None:
    tokenizer = CharacterTokenizer()
    assert tokenizer.size == 29
    assert tokenizer.encode("A Z'") == [3, 1, 28, 2]
    assert tokenizer.decode([1, 3, 1, 1, 0, 28, 2, 1]) == "A Z'"
    assert tokenizer.encode("") == []
    assert tokenizer.decode([]) == ""


def test_unknown_characters_are_listed_once_and_named_in_the_message() -> None:
    fragment = "the tokenizer lacks '5' 'x', found in '5 x 5'"
    with pytest.raises(UnknownCharacters, match=fragment) as caught:
        CharacterTokenizer().encode("5 x 5")
    assert caught.value.characters == ["5", "x"]


def test_sentencepiece_round_trips_without_the_blank(bpe: SentencePieceTokenizer) -> None:
    assert bpe.size == 51
    assert len(bpe.tokens) == 51
    for text in sentences(20):
        ids = bpe.encode(text)
        assert min(ids) >= 2, "0 is the blank and 1 the unknown token"
        assert max(ids) < bpe.size
        assert bpe.decode(ids) == text
    assert len(bpe.encode(sentences()[0])) < 0.7 * len(sentences()[0])
    assert bpe.encode("") == []
    assert bpe.decode([]) == ""
    assert bpe.decode([0, 1, *bpe.encode("THE OLD"), 1, 0]) == "THE OLD"


def test_sentencepiece_refuses_characters_it_was_not_trained_on(
    bpe: SentencePieceTokenizer,
) -> None:
    with pytest.raises(UnknownCharacters) as caught:
        bpe.encode("THE 5 OLD QéÉ")
    assert caught.value.characters == ["5", "Q", "É", "é"]


@pytest.mark.parametrize("kind", ["characters", "sentencepiece"])
def test_tokenizers_survive_json_and_pickle(kind: str, bpe: SentencePieceTokenizer) -> None:
    tokenizer = CharacterTokenizer() if kind == "characters" else bpe
    text = sentences()[0]
    for copy in (
        Tokenizer.from_plain(json.loads(json.dumps(tokenizer.to_plain()))),
        pickle.loads(pickle.dumps(tokenizer)),
    ):
        assert copy == tokenizer
        assert hash(copy) == hash(tokenizer)
        assert copy.tokens == tokenizer.tokens
        assert copy.encode(text) == tokenizer.encode(text)
    assert CharacterTokenizer() != bpe


def test_training_sentencepiece_is_deterministic_and_silent(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    train_sentencepiece(sentences(), 40, tmp_path / "one.model")
    train_sentencepiece(iter(sentences()), 40, tmp_path / "two.model")
    assert capfd.readouterr() == ("", "")
    assert (tmp_path / "one.model").read_bytes() == (tmp_path / "two.model").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["one.model", "two.model"]
    assert load_tokenizer_file(tmp_path / "one.model").size == 41


def test_a_very_long_text_is_trained_on_too(tmp_path: Path) -> None:
    tokenizer = train_sentencepiece(["A B", "XY " * 4000], 6, tmp_path / "long.model")
    assert tokenizer.decode(tokenizer.encode("XY A")) == "XY A"


@pytest.mark.parametrize(
    ("size", "fragment"),
    [(5000, r"5000 tokens are too many for these texts; at most \d+$"), (5, "too few .* at least")],
)
def test_impossible_sizes_name_the_possible_ones(tmp_path: Path, size: int, fragment: str) -> None:
    with pytest.raises(AsrError, match=fragment) as caught:
        train_sentencepiece(sentences(), size, tmp_path / "x.model")
    assert not list(tmp_path.iterdir())
    possible = int(str(caught.value).split()[-1])
    assert train_sentencepiece(sentences(), possible, tmp_path / "x.model").size == possible + 1


def test_no_text_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AsrError, match="no text to train"):
        train_sentencepiece(["", "  "], 30, tmp_path / "x.model")


@pytest.mark.parametrize("content", [b"", b"this is not a model", b"\0" * 64, "half"])
def test_damaged_tokenizer_files_are_refused_by_name(
    tmp_path: Path,
    content: bytes | str,
    bpe: SentencePieceTokenizer,
    capfd: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "bad.model"
    path.write_bytes(content if isinstance(content, bytes) else bpe._model[:200])
    with pytest.raises(AsrError, match=r"bad\.model: tokenizer: not a SentencePiece model"):
        load_tokenizer_file(path)
    assert capfd.readouterr() == ("", "")


def test_a_missing_tokenizer_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(AsrError, match=r"none\.model: cannot read the tokenizer file: No such"):
        load_tokenizer_file(tmp_path / "none.model")


@pytest.mark.parametrize(
    "plain",
    [{}, {"kind": "words"}, {"kind": "sentencepiece"}, {"kind": "sentencepiece", "model": "*"}],
)
def test_plain_values_that_are_not_a_tokenizer_are_refused(plain: dict[str, str]) -> None:
    with pytest.raises(AsrError, match="tokenizer"):
        Tokenizer.from_plain(plain)
