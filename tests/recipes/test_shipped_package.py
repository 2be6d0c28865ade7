"""The files that `recipes/shipped/package.py` writes, with the errors of a record on the card."""

import json
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from decoding_data import small_model
from paths import ROOT, TRAINED

from asr.decode.lm.file import write_lm
from asr.errors import AsrError
from asr.features.settings import Frontend
from asr.model.dimensions import Model
from asr.model.file import save_model
from asr.model.info import describe
from asr.model.torch_network import DeepSpeech
from asr.pretrained import registry
from asr.report.measurements import DisplayColumn, write_measurement
from asr.text.tokenizer import CharacterTokenizer

sys.path.insert(0, str(ROOT / "recipes" / "shipped"))
import package
from lib.card import MARKER


@pytest.fixture
def lm(tmp_path: Path) -> Path:
    write_lm(tmp_path / "any.lm", small_model())
    return tmp_path / "any.lm"


@pytest.fixture
def record(tmp_path: Path, lm: Path) -> Path:
    """A record as recipes/benchmarks/recogniser.py writes it."""
    found = describe(TRAINED).parameters
    decoder = {"beam": 32, "lm_weight": 0.7, "word_bonus": 0, "unknown_score": -8}
    decoder["prior_weight"] = 0.0
    own = {"parameters": found.elements, "nonzeros": found.nonzeros, **decoder}
    details = {
        "limit": None,
        "networks": {"sparse": own, "dense": {}},
        "lm": {"sha256": sha256(lm.read_bytes()).hexdigest()},
    }

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
    columns = [DisplayColumn("Network", "network")]
    write_measurement(
        tmp_path / "r.json", "recogniser", "all", "command", columns, rows, details=details
    )
    return tmp_path / "r.json"


def packaged(tmp_path: Path, lm: Path, *words: object) -> Path:
    output = tmp_path / "models"
    package.main([str(w) for w in (TRAINED, lm, "--output", output, "--name", "small", *words)])
    return output


def test_files_and_card_have_the_figures_of_the_record(
    tmp_path: Path, lm: Path, record: Path
) -> None:
    words = ("--record", record, "--lm-weight", 0.7, "--unknown-score", -8)
    output = packaged(tmp_path, lm, *words)
    assert sorted(p.name for p in output.iterdir()) == [
        "small.asr", "small.json", "small.lm", "small.md",
    ]  # fmt: skip
    made = registry.read(output / "small.json")
    assert made.model.read_bytes() == TRAINED.read_bytes()
    assert (made.options["lm_weight"], made.options["unknown_score"]) == (0.7, -8)
    assert made.figures.wer["beam, LM"] == {"test-digits": 0.03, "test-other": 0.5}
    assert "WER, greedy" in made.table()
    card = made.card.read_text()
    assert "| test-digits | greedy | 4.0 (3.0-5.0) | 2.0 (0.0-5.0) |" in card
    assert "| test-other | beam, LM | 50.0 (40.0-60.0) | not measured |" in card
    assert "<!--" not in card
    assert card.startswith("# english: a sparse recogniser of read English")
    assert "PocketSphinx" not in card


def test_a_recogniser_without_a_record_has_no_figures_on_its_card(tmp_path: Path, lm: Path) -> None:
    card = (packaged(tmp_path, lm) / "small.md").read_text()
    assert "Not measured" in card
    assert "| Set |" not in card
    assert "wer" not in registry.read(tmp_path / "models" / "small.json").table()


def set_to(value: Any, *keys: str) -> Any:
    """A change of a record."""

    def change(plain: dict) -> None:
        for key in keys[:-1]:
            plain = plain[key]
        plain[keys[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "fragment"),
    [
        (set_to(3, "details", "limit"), "only 3 utterances"),
        (set_to("0", "details", "lm", "sha256"), "another language model"),
        (set_to(0.6, "details", "networks", "sparse", "lm_weight"), "lm_weight is 0.6, but 0.7"),
        (set_to(16, "details", "networks", "sparse", "beam"), "beam is 16, but 32"),
        (set_to(9, "details", "networks", "sparse", "nonzeros"), "nonzeros is 9, but"),
        (set_to({}, "details"), "not a record of"),
        (set_to("decoders", "recipe"), "not a record of"),
    ],
)
def test_a_record_of_another_network_or_decoder_is_refused(
    tmp_path: Path, lm: Path, record: Path, change: Any, fragment: str
) -> None:
    plain = json.loads(record.read_text())
    change(plain)
    record.write_text(json.dumps(plain))
    words = ("--record", record, "--lm-weight", 0.7, "--unknown-score", -8)
    with pytest.raises(AsrError, match=fragment):
        packaged(tmp_path, lm, *words)
    assert not (tmp_path / "models").exists()


def test_other_files_and_cards_without_a_place_for_the_table_are_refused(
    tmp_path: Path, lm: Path
) -> None:
    (tmp_path / "text").write_text("no record")
    (tmp_path / "list").write_text("[]")
    (tmp_path / "none.md").write_text("no place for the table")
    (tmp_path / "twice.md").write_text(f"{MARKER}\n{MARKER}\n")
    for words, fragment in (
        (["--record", tmp_path / "gone"], "gone: cannot be read"),
        (["--record", tmp_path / "text"], "text: not a record"),
        (["--record", tmp_path / "list"], "list: not a record"),
        (["--card", tmp_path / "gone"], "gone: cannot be read"),
        (["--card", tmp_path / "none.md"], "needs the line .* once"),
        (["--card", tmp_path / "twice.md"], "needs the line .* once"),
        (["--output", tmp_path / "text" / "in"], "cannot be written there"),
    ):
        with pytest.raises(AsrError, match=fragment):
            packaged(tmp_path, lm, *words)


def test_an_interruption_leaves_no_recogniser_of_old_and_new_files(
    tmp_path: Path, lm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = packaged(tmp_path, lm)
    replace = Path.replace

    def stop(path: Path, target: Path) -> Path:
        if path.suffix == ".lm":
            raise KeyboardInterrupt
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        packaged(tmp_path, lm)
    assert sorted(p.suffix for p in output.iterdir()) == [".asr", ".lm", ".md"]


def test_a_recogniser_that_is_refused_leaves_the_files_there(
    tmp_path: Path, lm: Path, record: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = packaged(tmp_path, lm)
    before = {path.name: path.read_bytes() for path in output.iterdir()}
    for words, fragment in (
        (["--record", record, "--network", "sparser"], "it has PocketSphinx, dense, sparse"),
        (["--lm-weight", "-1"], "lm_weight"),
    ):
        with pytest.raises(AsrError, match=fragment):
            packaged(tmp_path, lm, *words)
    monkeypatch.setattr(package, "LM_BYTES", 10)
    with pytest.raises(AsrError, match="more than 10"):
        packaged(tmp_path, lm)
    assert {path.name: path.read_bytes() for path in output.iterdir()} == before


def test_a_dense_network_is_refused(tmp_path: Path, lm: Path) -> None:
    model = DeepSpeech(Model(hidden=8, layers=1, conv_channels=[2, 2]))
    save_model(tmp_path / "dense.asr", model, CharacterTokenizer(), Frontend())
    with pytest.raises(AsrError, match="asr pack"):
        package.main([str(tmp_path / "dense.asr"), str(lm), "--output", str(tmp_path / "models")])
    assert not (tmp_path / "models").exists()
    with pytest.raises(AsrError, match=r"no\.lm: no such file"):
        packaged(tmp_path, tmp_path / "no.lm")
