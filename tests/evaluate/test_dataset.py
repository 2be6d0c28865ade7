"""Scores against jiwer, intervals against their definition, references beside hypotheses."""

import random
import time
from dataclasses import replace
from pathlib import Path

import jiwer
import numpy as np
import pytest
import soundfile
from tone_network import RATE, save_tone_model, speak

from asr.audio.chunk import ChunkOptions
from asr.corpus.manifest import Utterance, write_manifest
from asr.decode import DecoderOptions
from asr.decode.library import native
from asr.errors import AsrError
from asr.evaluate.dataset import describe, evaluate, evaluate_to
from asr.evaluate.wer import Errors, Row, score, speakers_of
from asr.transcribe.options import TranscribeOptions
from asr.transcribe.recogniser import Recogniser, load


def random_texts(count: int, seed: int = 5) -> tuple[list[str], list[str]]:
    """References, and hypotheses with about 30 % of words changed; some of both are empty."""
    draw, words = random.Random(seed), "ONE TWO THREE FOUR FIVE SIX SEVEN".split()  # noqa: SIM905
    references, hypotheses = [], []
    for _ in range(count):
        said = draw.choices(words, k=draw.randrange(0, 12))
        found = []
        for word in said:
            found += draw.choice([[word]] * 7 + [[], [draw.choice(words)], [word, "OH"]])
        references.append(" ".join(said))
        hypotheses.append(" ".join(found or draw.choices(words, k=draw.randrange(0, 2))))
    return references, hypotheses


def test_rates_and_parts_are_those_of_jiwer() -> None:
    references, hypotheses = random_texts(200)
    got, expected = score(references, hypotheses), jiwer.process_words(references, hypotheses)
    assert 0.1 < got.wer < 0.6
    assert got.wer == jiwer.wer(references, hypotheses)
    assert got.cer == jiwer.cer(references, hypotheses)
    assert (got.insertions, got.deletions, got.substitutions) == (
        expected.insertions,
        expected.deletions,
        expected.substitutions,
    )
    assert got.words == sum(len(r.split()) for r in references)
    assert got.wer == (got.insertions + got.deletions + got.substitutions) / got.words


def test_counts_of_an_utterance_are_those_it_has_alone() -> None:
    references, hypotheses = random_texts(60)
    for row, said, found in zip(
        score(references, hypotheses).per_utterance, references, hypotheses, strict=True
    ):
        alone = jiwer.process_words(said, found)
        assert row == Errors(
            len(said.split()), alone.substitutions, alone.deletions, alone.insertions
        )


def test_exact_counts_of_a_small_set() -> None:
    got = score(["A B C D", "", "E"], ["A X C", "F G", "E"])
    assert (got.utterances, got.words) == (3, 5)
    assert got.per_utterance == (Errors(4, 1, 1, 0), Errors(0, 0, 0, 2), Errors(1, 0, 0, 0))
    assert got.wer == 4 / 5
    plain = got.to_plain()
    assert plain.pop("wer_low") <= 0.8 <= plain.pop("wer_high")
    assert plain.pop("cer") == jiwer.cer(["A B C D", "", "E"], ["A X C", "F G", "E"])
    assert plain == {
        "wer": 0.8,
        "utterances": 3,
        "words": 5,
        "insertions": 2,
        "deletions": 1,
        "substitutions": 1,
    }
    assert str(got).endswith(
        "1 substitution, 1 deletion, 2 insertions in 5 words of 3 utterances"
    ), got


def test_words_found_in_silence_are_insertions() -> None:
    got = score(["", ""], ["A B", ""])
    assert (got.words, got.insertions) == (0, 2)
    assert got.wer == jiwer.wer(["", ""], ["A B", ""]) == 2.0


def test_interval_is_the_bootstrap_of_a_plain_loop() -> None:
    references, hypotheses = random_texts(40)
    got = score(references, hypotheses, seed=7, resamples=300)
    rates = []
    for chosen in np.random.default_rng(7).integers(40, size=(300, 40)):
        rows = [got.per_utterance[i] for i in chosen]
        rates.append(sum(e.total for e in rows) / sum(e.words for e in rows))
    assert got.wer_low == pytest.approx(np.quantile(rates, 0.025), abs=1e-12)
    assert got.wer_high == pytest.approx(np.quantile(rates, 0.975), abs=1e-12)
    assert got.wer_low < got.wer < got.wer_high


def test_interval_covers_what_theory_says_and_repeats_itself() -> None:
    # 400 one-word utterances of which 100 are wrong: a binomial fraction, sd 0.0217.
    references, hypotheses = ["A"] * 400, ["B"] * 100 + ["A"] * 300
    got = score(references, hypotheses)
    assert got.wer_low == pytest.approx(0.25 - 1.96 * 0.02165, abs=0.006)
    assert got.wer_high == pytest.approx(0.25 + 1.96 * 0.02165, abs=0.006)
    assert score(references, hypotheses) == got
    other = score(references, hypotheses, seed=2)
    assert (other.wer_low, other.wer_high) != (got.wer_low, got.wer_high)


def test_resampling_speakers_widens_the_interval_when_errors_stick_to_them() -> None:
    references = ["A"] * 400
    hypotheses = (["B"] * 10 + ["A"] * 10) * 10 + ["A"] * 200
    speakers = [f"speaker {i // 10}" for i in range(400)]
    alone, grouped = score(references, hypotheses), score(references, hypotheses, speakers)
    assert grouped.wer == alone.wer == 0.25
    assert grouped.wer_high - grouped.wer_low > 2 * (alone.wer_high - alone.wer_low)


def test_no_errors_give_an_interval_of_zero_width() -> None:
    got = score(["A B"] * 5, ["A B"] * 5)
    assert (got.wer, got.wer_low, got.wer_high, got.cer) == (0.0, 0.0, 0.0, 0.0)


def test_thousands_of_utterances_are_scored_in_a_moment() -> None:
    references, hypotheses = random_texts(3000)
    started = time.perf_counter()
    score(references, hypotheses)
    assert time.perf_counter() - started < 5


def test_nothing_to_score_and_a_single_speaker_are_refused() -> None:
    with pytest.raises(AsrError, match="there is not one utterance"):
        score([], [])
    with pytest.raises(AsrError, match="needs at least two"):
        score(["A", "B"], ["A", "B"], ["same", "same"])


def recordings(folder: Path, texts: dict[str, str]) -> list[Utterance]:
    """Files in which the tone network finds `texts`, claiming to say something else."""
    utterances = []
    for name, (sound, said) in {k: v.split("|") for k, v in texts.items()}.items():
        samples = speak(sound)
        soundfile.write(folder / f"{name}.wav", samples, RATE)
        utterances.append(
            Utterance(name, str(folder / f"{name}.wav"), len(samples) / RATE, said, "s")
        )
    return utterances


@pytest.fixture(scope="module")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Recogniser:
    return load(save_tone_model(tmp_path_factory.mktemp("model") / "tone.asr"))


def test_a_network_is_scored_on_recordings_in_the_order_given(
    tones: Recogniser, tmp_path: Path
) -> None:
    utterances = recordings(
        tmp_path, {"short": "FAD|Fad.", "long": "BEAD A CAGE|bead the Cagé", "five": "AB|a 5 b"}
    )
    options = TranscribeOptions(batch_seconds=4.0)
    got, rows, seconds = evaluate(tones, utterances, options)
    assert rows == [
        Row("short", "s", "FAD", "FAD"),
        Row("long", "s", "BEAD THE CAGE", "BEAD A CAGE"),
        Row("five", "s", "A 5 B", "AB"),
    ]
    assert got.per_utterance == (Errors(1, 0, 0, 0), Errors(3, 1, 0, 0), Errors(3, 1, 2, 0))
    assert got.wer == 4 / 7
    assert 0 < seconds < 60


def test_a_recording_shorter_than_a_frame_gives_no_words(tones: Recogniser, tmp_path: Path) -> None:
    utterances = recordings(tmp_path, {"normal": "BAD|bad", "click": "|a b"})
    soundfile.write(tmp_path / "click.wav", np.zeros(100), RATE)
    for some in (utterances, utterances[1:]):
        _, rows, _ = evaluate(tones, some)
        assert [row.hypothesis for row in rows] == ["BAD", ""][-len(some) :]


def test_a_long_recording_is_evaluated_as_it_is_transcribed(
    tones: Recogniser, tmp_path: Path
) -> None:
    text = " ".join(["BAD CAFE FEED A BEE"] * 8)
    [utterance] = recordings(tmp_path, {"long": f"{text}|{text}"})
    assert utterance.duration > 20
    figures, [row], _ = evaluate(tones, [utterance])
    [transcript] = tones.transcribe(utterance.audio_filepath)
    assert row.hypothesis == transcript.text == text
    assert figures.wer == 0
    short = TranscribeOptions(chunks=ChunkOptions(2.0, 0.0))
    _, [row], _ = evaluate(tones, [utterance], short)
    [transcript] = tones.transcribe(utterance.audio_filepath, short)
    assert row.hypothesis == transcript.text != text, "words are lost at seams without overlap"


def test_no_utterances_are_refused(tones: Recogniser) -> None:
    with pytest.raises(AsrError, match="nothing to evaluate"):
        evaluate(tones, [])


def test_a_model_file_is_scored_on_a_manifest(tmp_path: Path) -> None:
    utterances = recordings(tmp_path, {"one": "FAD|fad", "two": "BEAD A CAGE|bead the cage"})
    write_manifest(tmp_path / "test.jsonl", utterances)
    model, output = save_tone_model(tmp_path / "tone.asr"), tmp_path / "ref_hyp.txt"
    printed = evaluate_to(model, str(tmp_path / "test.jsonl"), output).splitlines()
    assert printed[0].startswith("WER 25.00 % (0.00 % to 33.33 %), CER ")
    assert printed[0].endswith(
        "1 substitution, 0 deletions, 0 insertions in 4 words of 2 utterances"
    )
    assert printed[1] == "decoder greedy; 95 % interval over utterances; normalisation en-v1"
    assert printed[2].startswith("2.4 s of audio in ")
    assert printed[3].startswith("backend torch ")
    assert printed[4:] == [f"references and hypotheses: {output}"]
    assert "ERR: (THE->A)" in output.read_text()
    beam = DecoderOptions("beam", beam=4, word_bonus=1.0)
    printed = evaluate_to(model, str(tmp_path / "test.jsonl"), decoding=beam).splitlines()
    assert len(printed) == 4
    assert printed[0].startswith("WER 25.00 %")
    assert printed[1].startswith("decoder beam 4, word bonus 1; 95 % interval")
    assert printed[3].endswith(f"; beam search in {native()}")


def test_the_interval_is_drawn_over_speakers_where_they_are_known(tmp_path: Path) -> None:
    utterances = recordings(
        tmp_path, {f"u{i}": f"BAD|{'bad' if i % 3 else 'dab'}" for i in range(12)}
    )
    write_manifest(tmp_path / "test.jsonl", [replace(u, speaker=u.id[-1]) for u in utterances])
    model = save_tone_model(tmp_path / "tone.asr")
    assert "interval over 10 speakers" in evaluate_to(model, str(tmp_path / "test.jsonl"))


def test_speakers_are_drawn_over_only_if_all_are_known_and_they_are_five() -> None:
    rows = [Row(f"u{i}", f"s{i % 5}", "A", "A") for i in range(10)]
    assert speakers_of(rows) == [row.speaker for row in rows]
    assert speakers_of([*rows, Row("u", "", "A", "A")]) is None
    assert speakers_of([row for row in rows if row.speaker != "s0"]) is None


def test_a_decoder_is_described_in_a_few_words() -> None:
    assert describe(DecoderOptions()) == "greedy"
    options = DecoderOptions(
        "beam", beam=16, lm="lm/big.arpa.gz", lm_weight=0.75, word_bonus=1.5, phrases=("A B",)
    )
    assert describe(options) == "beam 16, big.arpa.gz x 0.75, word bonus 1.5, 1 phrase"
