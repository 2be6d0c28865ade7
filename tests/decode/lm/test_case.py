"""A language model in other letters than the network: used in the network's, or refused."""

import numpy as np
import pytest
from decoding_data import SENTENCES, spoken_log_probs

from asr.decode import DecoderOptions, make_decoder
from asr.decode.lm.arpa import write_arpa
from asr.decode.lm.build import build_model
from asr.decode.lm.file import write_lm
from asr.decode.lm.train import number_words, train_ngrams
from asr.errors import AsrError
from asr.text.tokenizer import CharacterTokenizer, train_sentencepiece

TEXT = "THE CAT SAT ON THE MAT"


class LowerCase(CharacterTokenizer):
    """The same tokens in lower case."""

    tokens = tuple(token.lower() for token in CharacterTokenizer().tokens)  # type: ignore[assignment]
    _tokens = tokens
    _index = {token: i for i, token in enumerate(tokens) if i}  # noqa: RUF012


class BothCases(CharacterTokenizer):
    """A to Z twice."""

    tokens = (*CharacterTokenizer().tokens, *LowerCase.tokens[3:])  # type: ignore[assignment]
    _tokens = tokens
    _index = {token: i for i, token in enumerate(tokens) if i}  # noqa: RUF012


def model(folder, change, name="m.arpa") -> str:
    ngrams = train_ngrams(number_words(map(change, SENTENCES)), 3, (1,)).ngrams
    path = folder / name
    if name.endswith(".arpa"):
        write_arpa(path, ngrams)
    else:
        write_lm(path, build_model(ngrams))
    return str(path)


def decode(tokenizer, lm, text):
    options = DecoderOptions("beam", lm=lm, lm_weight=1.0, unknown_score=-5.0)
    return make_decoder(options, tokenizer).decode(spoken_log_probs(text, tokenizer, 5, 1.6))[0]


@pytest.mark.parametrize("name", ["m.arpa", "m.lm"])
@pytest.mark.parametrize("change", [str.upper, str.lower, str.title], ids=lambda f: f.__name__)
@pytest.mark.parametrize("tokenizer", [CharacterTokenizer(), LowerCase()], ids=["UPPER", "lower"])
def test_a_model_in_the_other_case_helps_as_much_as_one_in_the_same(
    tokenizer, change, name, tmp_path
):
    own = str.upper if type(tokenizer) is CharacterTokenizer else str.lower
    expected = decode(tokenizer, model(tmp_path, own, f"own.{name}"), own(TEXT))
    found = decode(tokenizer, model(tmp_path, change, name), own(TEXT))
    assert expected.text == found.text == own(TEXT)
    assert found.lm_score == pytest.approx(expected.lm_score, abs=0.2)


@pytest.mark.parametrize("change", [str.upper, str.lower], ids=lambda f: f.__name__)
def test_subwords_are_known_by_their_letters(change, tmp_path):
    texts = [sentence.upper() for sentence in SENTENCES]
    tokenizer = train_sentencepiece(texts, 30, tmp_path / "t.model")
    assert decode(tokenizer, model(tmp_path, change), TEXT).text == TEXT


@pytest.mark.parametrize("change", [str.upper, str.lower], ids=lambda f: f.__name__)
def test_a_network_that_writes_both_cases_gets_the_model_as_it_is(change, tmp_path):
    lm = model(tmp_path, change)
    scores = [decode(BothCases(), lm, how(TEXT)).lm_score for how in (str.upper, str.lower)]
    right, wrong = scores if change is str.upper else scores[::-1]
    assert right > wrong + 10


def test_a_few_words_in_other_letters_change_nothing(tmp_path):
    lm = model(
        tmp_path, lambda sentence: sentence.replace("BENCH", "bench").replace("DOOR", "door")
    )
    assert decode(CharacterTokenizer(), lm, TEXT).text == TEXT


@pytest.mark.parametrize(
    "words", ["the cat and The dog", "we met Mark to mark it", "it is ON the on switch"]
)
def test_words_that_differ_only_in_their_case_are_refused(words, tmp_path):
    ngrams = train_ngrams(number_words([words]), 2, (1,)).ngrams
    write_arpa(tmp_path / "mixed.arpa", ngrams)
    options = DecoderOptions("beam", lm=str(tmp_path / "mixed.arpa"))
    with pytest.raises(AsrError, match=r"mixed\.arpa: has words that differ only in their case"):
        make_decoder(options, CharacterTokenizer())


@pytest.mark.parametrize("name", ["m.arpa", "m.lm"])
@pytest.mark.parametrize("how", ["emptied", "overwritten", "removed"])
def test_a_model_whose_file_changes_while_it_is_in_use_goes_on(how, name, tmp_path):
    """Nothing is mapped: a mapped file that shrinks would end the process with SIGBUS."""
    path = model(tmp_path, str.upper, name)
    options = DecoderOptions("beam", lm=path)
    decoder = make_decoder(options, CharacterTokenizer())
    rows = spoken_log_probs(TEXT, CharacterTokenizer(), 5, 1.6)
    before = decoder.decode(rows)[0]
    with open(path, "r+b") as file:
        if how == "emptied":
            file.truncate(0)
        else:
            file.write(b"\xff" * 10_000)
    if how == "removed":
        (tmp_path / name).unlink()
    after = decoder.decode(rows)[0]
    assert after.text == before.text
    assert np.isclose(after.lm_score, before.lm_score)


@pytest.mark.parametrize("words", ["one", "one two", "one two three", "One two three"])
def test_the_smallest_models_are_known_by_their_letters_too(words, tmp_path):
    ngrams = train_ngrams(number_words([words]), 2, (1,)).ngrams
    write_arpa(tmp_path / "m.arpa", ngrams)
    best = decode(CharacterTokenizer(), str(tmp_path / "m.arpa"), words.upper())
    assert best.text == words.upper()
    assert best.lm_score > -12
