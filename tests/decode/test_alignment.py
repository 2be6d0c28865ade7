"""The best CTC path against enumeration and torchaudio; words and times from it."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
import torch
from decoding_data import collapse, table
from tone_network import HERTZ, RATE, SILENT_SECONDS, SPOKEN_SECONDS, save_tone_model, speak

from asr import audio
from asr.corpus.manifest import read_manifest
from asr.decode import DecoderOptions, make_decoder
from asr.decode.alignment import align, find_words, frames_needed, split_words
from asr.decode.confidence import Calibration
from asr.errors import AsrError
from asr.text.tokenizer import (
    CharacterTokenizer,
    SentencePieceTokenizer,
    train_sentencepiece,
)
from asr.transcribe.options import TranscribeOptions
from asr.transcribe.recogniser import Recogniser, load

TOKENIZER = CharacterTokenizer()


def forced(log_probs: np.ndarray, tokens: list[int]) -> list[tuple[int, int]]:
    """Frames of each token by torchaudio."""
    from torchaudio.functional import forced_align, merge_tokens

    rows = torch.from_numpy(log_probs)[None]
    path, scores = forced_align(rows, torch.tensor([tokens], dtype=torch.int32), blank=0)
    return [(span.start, span.end) for span in merge_tokens(path[0], scores[0].exp())]


@pytest.mark.parametrize("tokens", [[1], [1, 2], [1, 1], [2, 1, 2]])
@pytest.mark.parametrize("seed", range(5))
def test_the_path_is_the_best_of_all_that_collapse_to_the_tokens(
    tokens: list[int], seed: int
) -> None:
    log_probs = table(5, 3, seed, sharpness=1.0)
    paths = [p for p in itertools.product(range(3), repeat=5) if collapse(p) == tokens]
    scores = [log_probs[np.arange(5), p].sum() for p in paths]
    best = paths[int(np.argmax(scores))]
    found = align(log_probs, tokens)
    assert found.score == pytest.approx(max(scores), abs=1e-5)
    runs = [list(run) for _, run in itertools.groupby(range(5), key=lambda t: best[t])]
    spans = [(run[0], run[-1] + 1) for run in runs if best[run[0]]]
    assert list(zip(found.starts, found.ends, strict=True)) == spans


@pytest.mark.filterwarnings("ignore:.*forced_align.*")
@pytest.mark.parametrize("seed", range(10))
def test_the_path_equals_that_of_torchaudio(seed: int) -> None:
    draw = np.random.default_rng(seed)
    log_probs = table(120, 29, seed)
    tokens = [int(t) for t in draw.integers(1, 29, size=40)]
    tokens[7] = tokens[6]
    found = align(log_probs, tokens)
    assert list(zip(found.starts, found.ends, strict=True)) == forced(log_probs, tokens)


def test_equal_neighbours_need_a_blank_between_them() -> None:
    assert frames_needed([1, 1, 2]) == 4
    found = align(table(4, 3, 0), [1, 1, 2])
    assert list(found.starts) == [0, 2, 3]
    with pytest.raises(AsrError, match=r"3 tokens need 4 frames .* there are 3"):
        align(table(3, 3, 0), [1, 1, 2])


def test_without_tokens_all_frames_are_blank() -> None:
    log_probs = table(6, 3, 0)
    found = align(log_probs, [])
    assert len(found.starts) == 0
    assert found.score == pytest.approx(log_probs[:, 0].sum())


def spoken_table(tokens: list[int], frames_each: int = 4) -> np.ndarray:
    """Log-probabilities in which the tokens are clear, one every `frames_each` frames."""
    log_probs = table(len(tokens) * frames_each, 29, 3, sharpness=0.5)
    log_probs[:, 0] += 3
    for i, token in enumerate(tokens):
        log_probs[i * frames_each + 1, token] += 8
    return log_probs - np.logaddexp.reduce(log_probs, axis=1, keepdims=True)


def test_a_narrow_band_finds_the_same_path_where_text_and_recording_agree() -> None:
    tokens = [int(t) for t in np.random.default_rng(1).integers(1, 29, size=600)]
    log_probs = spoken_table(tokens)
    whole, narrow = align(log_probs, tokens), align(log_probs, tokens, band=150)
    assert (whole.starts == narrow.starts).all()
    assert (whole.ends == narrow.ends).all()
    assert narrow.score == pytest.approx(whole.score)


def test_a_band_that_loses_the_path_gives_an_error_that_text_and_recording_differ() -> None:
    tokens = [int(t) for t in np.random.default_rng(1).integers(1, 29, size=600)]
    with pytest.raises(AsrError, match="differ too much"):
        align(spoken_table(tokens[:300], frames_each=8), tokens, band=100)


def test_words_are_those_that_characters_write() -> None:
    ids = TOKENIZER.encode("  BAD  CAFE'S A")
    assert split_words(ids, TOKENIZER) == [("BAD", 2, 5), ("CAFE'S", 7, 13), ("A", 14, 15)]
    assert split_words(TOKENIZER.encode(" "), TOKENIZER) == []
    assert split_words([], TOKENIZER) == []


def test_words_are_those_that_sentencepiece_writes(tmp_path: Path) -> None:
    texts = ["THE CAT SAT ON THE MAT", "A CAT IS A CAT IN THE HAT", "AT THE MOST"]
    tokenizer = train_sentencepiece(texts, 30, tmp_path / "bpe.model")
    draw = np.random.default_rng(4)
    drawn = [[int(t) for t in draw.integers(0, tokenizer.size, size=12)] for _ in range(200)]
    for ids in [*map(tokenizer.encode, texts), *drawn]:
        words = split_words(ids, tokenizer)
        assert " ".join(text for text, _, _ in words) == tokenizer.decode(ids)
        assert all(tokenizer.decode(ids[first:end]) == text for text, first, end in words)


def test_bytes_of_sentencepiece_are_characters_of_words(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("THE CAT SAT ON THE MAT\nA CAT IS A CAT IN THE HAT\n" * 20)
    sentencepiece.SentencePieceTrainer.train(
        input=str(text), model_prefix=str(tmp_path / "m"), vocab_size=300, byte_fallback=True,
        minloglevel=2, hard_vocab_limit=False,
    )  # fmt: skip
    processor = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "m.model"))
    tokenizer = SentencePieceTokenizer((tmp_path / "m.model").read_bytes())
    ids = [i + 1 for i in processor.encode("THE Z\u00c9 CAT")]  # 0 is the blank
    assert [word for word, _, _ in split_words(ids, tokenizer)] == ["THE", "Z\u00c9", "CAT"]


@pytest.fixture(scope="module")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Recogniser:
    return load(save_tone_model(tmp_path_factory.mktemp("model") / "tone.asr"))


def test_words_begin_and_end_where_they_are_spoken(tones: Recogniser) -> None:
    text = "BAD CAFE A FEED"
    [transcript] = tones.transcribe(speak(text))
    assert transcript.text == text
    letter = SPOKEN_SECONDS + SILENT_SECONDS
    place = 0
    for word in transcript.words:
        start = SILENT_SECONDS + place * letter
        end = start + len(word.text) * letter - SILENT_SECONDS
        assert word.start == pytest.approx(start, abs=0.03)
        assert word.end == pytest.approx(end, abs=0.03)
        assert word.confidence > 0.3
        place += len(word.text) + 1
    assert set(text) <= set(HERTZ)
    assert transcript.seconds == len(speak(text)) / RATE


def test_a_calibration_changes_only_confidences(tones: Recogniser) -> None:
    log_probs = tones.log_probs(speak("BAD CAFE"))
    tokens = TOKENIZER.encode("BAD CAFE")
    raw = find_words(log_probs, tokens, TOKENIZER, 0.01)
    halved = find_words(log_probs, tokens, TOKENIZER, 0.01, Calibration(1.0, -1.0))
    assert [(w.text, w.start, w.end) for w in raw] == [(w.text, w.start, w.end) for w in halved]
    assert all(a.confidence > b.confidence for a, b in zip(raw, halved, strict=True))
    assert find_words(log_probs[:0], [], TOKENIZER, 0.01) == []


@pytest.mark.filterwarnings("ignore:.*forced_align.*")
@pytest.mark.parametrize("decoding", [DecoderOptions(), DecoderOptions(decoder="beam")])
def test_times_agree_with_forced_alignment_within_two_frames(
    trained: Path, corpus: Path, decoding: DecoderOptions
) -> None:
    recogniser = load(trained)
    decoder = make_decoder(decoding, recogniser.tokenizer)
    checked = 0
    for utterance in read_manifest(corpus / "test.jsonl")[:12]:
        options = TranscribeOptions(decoding=decoding)
        [transcript] = recogniser.transcribe(utterance.audio_filepath, options)
        log_probs = recogniser.log_probs(audio.load(utterance.audio_filepath).samples)
        tokens = list(decoder.decode(log_probs)[0].tokens)
        spans = forced(log_probs, tokens)
        words = split_words(tokens, recogniser.tokenizer)
        assert [word.text for word in transcript.words] == [text for text, _, _ in words]
        frame = recogniser.frame_seconds
        for word, (_, first, end) in zip(transcript.words, words, strict=True):
            assert abs(word.start - spans[first][0] * frame) <= 2 * frame
            assert abs(word.end - spans[end - 1][1] * frame) <= 2 * frame
            checked += 1
    assert checked > 40
