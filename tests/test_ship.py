"""`recipes/ship.py`: the four files of a recogniser, with a card that says what records say."""

import sys
from pathlib import Path

import pytest
from conftest import TRAINED
from decoding import small_model

from asr import models
from asr.checkpoint import save_model
from asr.decode import compact
from asr.errors import AsrError
from asr.model import DeepSpeech
from asr.report.measurements import Shown, write_measurement
from asr.settings import Frontend, Model
from asr.text import CharacterUnits

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "recipes"))
import ship  # noqa: E402


@pytest.fixture
def lm(tmp_path: Path) -> Path:
    compact.write(tmp_path / "any.lm", small_model())
    return tmp_path / "any.lm"


@pytest.fixture
def record(tmp_path: Path) -> Path:
    """In the shape of recipes/benchmarks/recogniser.py."""

    def row(network: str, decoder: str, wer: float, rtf: float) -> dict:
        return {
            "network": network,
            "decoder": decoder,
            "wer test-digits": {"wer": wer, "low": wer - 0.01, "high": wer + 0.01, "words": 500},
            "cer test-digits": {"value": wer / 2, "low": 0.0, "high": 0.05},
            "wer test-other": {"wer": 0.5, "low": 0.4, "high": 0.6},
            "rtf": rtf,
            "peak_bytes": 81_000_000,
        }

    rows = [
        row("sparse", "greedy", 0.04, 0.002),
        row("sparse", "beam with LM", 0.03, 0.004),
        row("dense", "greedy", 0.02, 0.02),
        {"network": "PocketSphinx", "decoder": "its own"},
    ]
    shown = [Shown("Network", "network")]
    write_measurement(tmp_path / "r.json", "recogniser", "all", "command", shown, rows)
    return tmp_path / "r.json"


def shipped(tmp_path: Path, lm: Path, *words: object) -> Path:
    output = tmp_path / "models"
    ship.main([str(w) for w in (TRAINED, lm, "--output", output, "--name", "small", *words)])
    return output


def test_files_and_card_say_what_the_record_says(tmp_path: Path, lm: Path, record: Path) -> None:
    words = ("--record", record, "--twin", "dense", "--lm-weight", 0.7, "--unknown-score", -8)
    output = shipped(tmp_path, lm, *words)
    assert sorted(p.name for p in output.iterdir()) == [
        "small.asr", "small.json", "small.lm", "small.md",
    ]  # fmt: skip
    made = models.read(output / "small.json")
    assert made.model.read_bytes() == TRAINED.read_bytes()
    assert (made.decoder["lm_weight"], made.decoder["unknown_score"]) == (0.7, -8)
    assert made.figures["wer"]["beam, LM"] == {"test-digits": 0.03, "test-other": 0.5}
    assert "word errors, greedy" in made.table()
    card = made.card.read_text()
    assert "| test-digits | greedy | 4.0 (3.0-5.0) | 2.0 (0.0-5.0) |" in card
    assert "| test-other | beam, LM | 50.0 (40.0-60.0) | not measured |" in card
    assert "0.0020 processor seconds" in card
    assert "its dense twin 0.0200" in card
    assert "its dense twin 0.0040" not in card
    assert "$" not in card
    assert "PocketSphinx" not in card


def test_what_was_not_measured_or_not_mixed_in_is_not_on_the_card(tmp_path: Path, lm: Path) -> None:
    card = (shipped(tmp_path, lm) / "small.md").read_text()
    assert "Not measured" in card
    assert "processor seconds" not in card
    assert "ESC-10" not in card
    assert "noise -->" not in card
    assert "wer" not in models.read(tmp_path / "models" / "small.json").table()


def test_authors_of_noises_are_named(tmp_path: Path, lm: Path) -> None:
    rows = ["file\tlicence\tauthor", "a\tCC-BY\tZoe", "b\tCC0\tNobody", "c\tCC-BY\tadam"]
    (tmp_path / "noise.tsv").write_text("\n".join(rows) + "\n")
    card = (shipped(tmp_path, lm, "--noise", tmp_path / "noise.tsv") / "small.md").read_text()
    assert "adam, Zoe." in card
    assert "Nobody" not in card


def test_what_cannot_be_shipped_leaves_what_is_there(
    tmp_path: Path, lm: Path, record: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = shipped(tmp_path, lm)
    before = {path.name: path.read_bytes() for path in output.iterdir()}
    for words, fragment in (
        (["--record", record, "--network", "sparser"], "there is PocketSphinx, dense, sparse"),
        (["--lm-weight", "-1"], "lm_weight"),
    ):
        with pytest.raises(AsrError, match=fragment):
            shipped(tmp_path, lm, *words)
    monkeypatch.setattr(ship, "LM_BYTES", 10)
    with pytest.raises(AsrError, match="more than 10"):
        shipped(tmp_path, lm)
    assert {path.name: path.read_bytes() for path in output.iterdir()} == before


def test_a_dense_network_is_not_shipped(tmp_path: Path, lm: Path) -> None:
    model = DeepSpeech(Model(hidden=8, layers=1, conv_channels=[2, 2]))
    save_model(tmp_path / "dense.asr", model, CharacterUnits(), Frontend())
    with pytest.raises(AsrError, match="asr pack"):
        ship.main([str(tmp_path / "dense.asr"), str(lm), "--output", str(tmp_path / "models")])
    assert not (tmp_path / "models").exists()
