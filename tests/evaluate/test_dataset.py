"""A recogniser is scored on recordings with known text, as it transcribes them."""

from dataclasses import replace
from pathlib import Path

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
from asr.evaluate.wer import Errors, Row
from asr.transcribe.options import TranscribeOptions
from asr.transcribe.recogniser import Recogniser, load


def recordings(folder: Path, texts: dict[str, str]) -> list[Utterance]:
    """Files that the tone network transcribes as `texts`, with other references."""
    utterances = []
    for name, (sound, reference) in {k: v.split("|") for k, v in texts.items()}.items():
        samples = speak(sound)
        soundfile.write(folder / f"{name}.wav", samples, RATE)
        utterances.append(
            Utterance(name, str(folder / f"{name}.wav"), len(samples) / RATE, reference, "s")
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
    assert row.hypothesis == transcript.text != text, "without overlap words are lost at seams"


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


def test_a_decoder_is_described_in_a_few_words() -> None:
    assert describe(DecoderOptions()) == "greedy"
    options = DecoderOptions(
        "beam",
        beam=16,
        lm="lm/big.arpa.gz",
        lm_weight=0.75,
        word_bonus=1.5,
        prior_weight=0.4,
        phrases=("A B",),
    )
    assert describe(options) == (
        "beam 16, big.arpa.gz x 0.75, word bonus 1.5, prior weight 0.4, 1 phrase"
    )
