"""Recognition by a committed sparse network on held-out voices, through every interface.

An untrained network passes none of these: texts must be there and their WER below a bound.
"""

import sys
from pathlib import Path

import pytest
import torch

from asr.cli import main as cli
from asr.corpus.manifest import Utterance, read_manifest
from asr.evaluate.dataset import evaluate
from asr.evaluate.wer import score
from asr.model.file import load_model, save_model
from asr.model.info import describe
from asr.model.pack import pack
from asr.text.normalise import normalise
from asr.transcribe.options import TranscribeOptions
from asr.transcribe.recogniser import load

BOUND = 0.50


@pytest.fixture(scope="module")
def utterances(corpus: Path) -> list[Utterance]:
    """Held-out voices and sentences."""
    return read_manifest(corpus / "test.jsonl")


def error_rate(utterances: list[Utterance], texts: list[str]) -> float:
    assert all(isinstance(t, str) for t in texts)
    assert sum(bool(t) for t in texts) >= 0.95 * len(texts)
    return score([normalise(u.text) for u in utterances], texts).wer


def test_the_committed_file_is_small_and_sparse(trained: Path) -> None:
    assert trained.stat().st_size <= 300_000
    text = describe(trained).table()
    assert "packed" in text
    model = load_model(trained).model
    weights = [p for n, p in model.named_parameters() if n.startswith("rnn") and ".weight_" in n]
    zeros = sum(int((w == 0).sum()) for w in weights)
    assert zeros / sum(w.numel() for w in weights) > 0.8


def test_held_out_voices_are_recognised(trained: Path, utterances: list[Utterance]) -> None:
    transcripts = load(trained).transcribe([u.audio_filepath for u in utterances])
    assert error_rate(utterances, [t.text for t in transcripts]) < BOUND


def test_dense_and_packed_file_give_the_same_text(
    trained: Path, utterances: list[Utterance], tmp_path: Path
) -> None:
    loaded = load_model(trained)
    dense = tmp_path / "dense.asr"
    save_model(dense, loaded.model, loaded.tokenizer, loaded.frontend)
    assert dense.stat().st_size > 4 * trained.stat().st_size
    again = tmp_path / "packed.asr"
    pack(dense, again, values="fp32")
    folded = tmp_path / "folded.asr"
    pack(dense, folded, values="fp32", fold=True)
    paths = [u.audio_filepath for u in utterances]
    files = (trained, dense, again, folded)
    texts = [[t.text for t in load(f, exact=True).transcribe(paths)] for f in files]
    assert texts[0] == texts[1] == texts[2] == texts[3]
    assert error_rate(utterances, texts[0]) < BOUND

    features = torch.randn(2, 80, 80, generator=torch.Generator().manual_seed(1))
    lengths = torch.tensor([80, 61])
    with torch.inference_mode():
        outputs = [load_model(f).model(features, lengths)[0] for f in (dense, again, folded)]
    torch.testing.assert_close(outputs[0], outputs[1], atol=1e-4, rtol=0)
    torch.testing.assert_close(outputs[0], outputs[2], atol=1e-4, rtol=0)


def test_neighbours_in_a_batch_change_no_text(trained: Path, utterances: list[Utterance]) -> None:
    recogniser = load(trained, backend="torch")
    alone, _, _ = evaluate(recogniser, utterances, TranscribeOptions(batch_seconds=0.1))
    together, rows, _ = evaluate(recogniser, utterances, TranscribeOptions(batch_seconds=200))
    assert alone == together
    assert together.wer < BOUND
    assert [row.id for row in rows] == [u.id for u in utterances]


def test_the_command_writes_a_mirrored_tree_of_texts(
    trained: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["asr", "transcribe", str(corpus / "test"), "-m", str(trained), "-o", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", words)
    with pytest.raises(SystemExit) as done:
        cli.main()
    assert not done.value.code
    utterances = read_manifest(corpus / "test.jsonl")
    texts = []
    for u in utterances:
        place = tmp_path / Path(u.audio_filepath).relative_to(corpus / "test").with_suffix(".txt")
        texts.append(place.read_text().strip())
    assert error_rate(utterances, texts) < BOUND


def test_evaluate_prints_the_rate_and_writes_the_hypotheses(
    trained: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    words = ["asr", "evaluate", str(trained), str(corpus / "test.jsonl"), "-o"]
    monkeypatch.setattr(sys, "argv", [*words, str(tmp_path / "ref_hyp.txt")])
    with pytest.raises(SystemExit):
        cli.main()
    printed = capsys.readouterr().out
    assert "WER" in printed
    assert "CER" in printed
    utterances = read_manifest(corpus / "test.jsonl")
    assert utterances[0].id in (tmp_path / "ref_hyp.txt").read_text()
