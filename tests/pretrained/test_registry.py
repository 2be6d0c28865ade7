"""The recogniser in the package: found by name, decoded with its own options, described."""

import hashlib
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command_line import run_asr
from paths import TRAINED

import asr
from asr.corpus.manifest import read_manifest
from asr.decode import DecoderOptions
from asr.decode.lm.open import open_lm
from asr.errors import AsrError
from asr.evaluate.compare import compare_to
from asr.evaluate.dataset import evaluate_to
from asr.model.info import describe
from asr.pretrained import registry as models

ENGLISH = models.find("english")


@pytest.fixture(scope="module")
def recording(corpus: Path) -> str:
    return read_manifest(corpus / "test.jsonl")[0].audio_filepath


def test_the_files_are_those_of_the_description_and_small_enough() -> None:
    assert models.names() == ["english"]
    plain = json.loads(ENGLISH.model.with_suffix(".json").read_text())
    for kind, limit in (("model", 3_000_000), ("lm", 9_000_000)):
        content = (ENGLISH.model.parent / plain[kind]["file"]).read_bytes()
        assert len(content) == plain[kind]["bytes"] <= limit
        assert hashlib.sha256(content).hexdigest() == plain[kind]["sha256"]
    header = describe(ENGLISH.model)
    assert header.packed
    assert header.parameters.nonzeros == ENGLISH.figures.nonzeros
    assert header.parameters.elements == ENGLISH.figures.parameters
    assert header.pruned.sparsity > 0.5
    assert open_lm(ENGLISH.lm).order >= 2
    assert ENGLISH.decoding().lm == str(ENGLISH.lm)


def test_the_card_names_the_sources_that_licences_ask_for() -> None:
    card = models.card("english")
    for name in ("LibriSpeech", "Panayotov", "CC BY 4.0", "VCTK", "CC BY-SA 4.0", "speechocean762"):
        assert name in card
    assert "$" not in card


def test_without_a_model_a_file_is_decoded_by_beam_search_with_the_language_model(
    recording: str,
) -> None:
    [beam] = asr.load().transcribe(recording)
    assert beam.options.decoding == ENGLISH.decoding()
    [greedy] = asr.load("english").transcribe(
        recording, asr.TranscribeOptions(asr.DecoderOptions())
    )
    [own] = asr.load(ENGLISH.model).transcribe(recording)
    assert own.text == greedy.text
    for words, text in (
        ([], beam.text),
        (["-m", "english", "--decoder", "greedy"], greedy.text),
        (["-m", ENGLISH.model], greedy.text),
    ):
        run = run_asr("transcribe", recording, *words)
        assert (run.returncode, run.stdout, run.stderr) == (0, f"{text}\n", "")


def test_silence_gives_no_words() -> None:
    for level, seconds in ((0.0, 3), (0.0, 45), (0.02, 3)):
        silence = np.full(seconds * 16000, level, np.float32)
        [transcript] = asr.load().transcribe(silence)
        assert (transcript.text, transcript.words, transcript.seconds) == ("", (), seconds)


def test_given_options_win_over_those_of_the_model() -> None:
    own = ENGLISH.decoding()
    assert models.decoding(None, {"lm_weight": 0.1}).lm_weight == 0.1
    assert models.decoding(None, {"beam": 5}).word_bonus == own.word_bonus
    assert models.decoding(None, {"decoder": "greedy"}) == DecoderOptions()
    other = models.decoding("english", {"lm": "books.lm"})
    assert (other.decoder, other.lm, other.lm_weight) == ("beam", "books.lm", 0.5)
    assert models.decoding("mine.asr", {}) == DecoderOptions()
    with pytest.raises(AsrError, match="greedy decoding cannot use"):
        models.decoding(None, {"decoder": "greedy", "lm_weight": 0.9})


def test_a_model_file_takes_the_language_model_of_a_name_with_its_options(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = models.find("english").decoding()
    assert own.prior_weight > 0
    assert models.decoding("english", {"lm": "english"}) == own
    weighed = models.decoding("mine.asr", {"lm": "english", "prior_weight": 0.25})
    assert weighed == replace(own, prior_weight=0.25)
    own = replace(own, prior_weight=0.0)  # tuned for its network
    assert models.decoding("mine.asr", {"lm": "english"}) == own
    given = models.decoding("mine.asr", {"lm": "english", "decoder": "beam", "beam": 8})
    assert given == replace(own, beam=8)
    with pytest.raises(AsrError, match="lm: greedy decoding cannot use it"):
        models.decoding("mine.asr", {"lm": "english", "decoder": "greedy"})
    with pytest.raises(AsrError, match="lm: greedy decoding cannot use it"):
        models.decoding("mine.asr", {"lm": "other.lm"})
    (tmp_path / "english").write_bytes(b"a file of this name")
    monkeypatch.chdir(tmp_path)
    assert models.decoding("mine.asr", {"lm": "english", "decoder": "beam"}).lm == "english"


def test_a_file_wins_over_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "english").mkdir()
    assert models.resolve("english") == ENGLISH.model
    (tmp_path / "english").rmdir()
    shutil.copy(TRAINED, tmp_path / "english")
    assert models.resolve("english") == Path("english")
    assert models.decoding("english", {}) == DecoderOptions()


@pytest.mark.parametrize("command", ["transcribe {} -m englsh", "info englsh", "align {} A -m de"])
def test_an_unknown_name_lists_the_known_ones(command: str, recording: str) -> None:
    run = run_asr(*command.format(recording).split())
    assert run.returncode == 2
    assert "known: english" in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize("name", ["a" * 300, "a" * 65, "a" * 64, f"{'a' * 300}/b", ""])
def test_a_name_of_any_length_is_refused(name: str) -> None:
    with pytest.raises(AsrError):
        describe(models.resolve(name))


def test_the_name_is_taken_by_evaluate_align_and_calibrate(recording: str, corpus: Path) -> None:
    few = corpus / "few.jsonl"
    few.write_text("\n".join((corpus / "test.jsonl").read_text().splitlines()[:2]) + "\n")
    assert "english.lm" in run_asr("evaluate", "english", few).stdout
    assert "decoder greedy" in run_asr("evaluate", "english", few, "--decoder", "greedy").stdout
    assert '"words"' in run_asr("align", recording, "ONE WORD").stdout
    refused = run_asr("calibrate", "english", few)
    assert refused.returncode == 2
    assert "-o" in refused.stderr


def test_the_name_is_compared_and_decoded_with_its_own_options(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = corpus / "two.jsonl"
    few.write_text("\n".join((corpus / "test.jsonl").read_text().splitlines()[:2]) + "\n")
    monkeypatch.chdir(tmp_path)
    lines = compare_to("english", ENGLISH.model, str(few)).splitlines()
    assert lines[0].startswith(f"A english (beam {ENGLISH.options['beam']}, english.lm x ")
    assert lines[1].startswith(f"B {ENGLISH.model} (greedy): WER ")
    evaluate_to("english", str(few), "eng.txt", decoding=DecoderOptions())
    same = compare_to("english", "eng.txt", str(few), given={"decoder": "greedy"}).splitlines()
    assert same[0].startswith("A english (greedy): WER ")
    assert same[1].startswith("B eng.txt: WER ")
    assert "B - A: +0.00 points" in same[2]
    for wrong, why in (("englsh", "known: english"), ("no.txt", "cannot be read")):
        with pytest.raises(AsrError, match=why):
            compare_to(wrong, "eng.txt", str(few))


def test_models_lists_and_info_shows_the_card(tmp_path: Path) -> None:
    listed = run_asr("models").stdout
    for part in ("english", "English", f"{ENGLISH.model.stat().st_size:,} bytes", "% zeros"):
        assert part in listed
    assert str(ENGLISH.model.parent) in listed
    shown = run_asr("info", "english").stdout
    assert models.card("english") in shown
    assert all(entry.name in shown for entry in describe(ENGLISH.model).tensors)
    shutil.copy(TRAINED, tmp_path / "mine.asr")
    assert models.card(tmp_path / "mine.asr") == ""
    (tmp_path / "mine.md").write_text("# Mine\x1b[31m\n")
    assert "# Mine?[31m" in run_asr("info", tmp_path / "mine.asr").stdout


@pytest.mark.parametrize("damage", ["short", "missing", "schema", "type", "text"])
def test_a_damaged_install_is_refused(tmp_path: Path, damage: str) -> None:
    for path in ENGLISH.model.parent.glob("english.*"):
        shutil.copy(path, tmp_path)
    description = tmp_path / "english.json"
    assert models.read(description).bytes == ENGLISH.bytes
    if damage == "short":
        (tmp_path / "english.lm").write_bytes(b"short")
    elif damage == "missing":
        (tmp_path / "english.asr").unlink()
    elif damage == "schema":
        description.write_text(description.read_text().replace('"schema": 1', '"schema": 2'))
    elif damage == "type":
        description.write_text(
            description.read_text().replace('"bytes": 1', '"bytes": true, "x": 1')
        )
    else:
        description.write_text("not json")
    with pytest.raises(AsrError, match="install asr again"):
        models.read(description)


def test_the_description_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    models.find.cache_clear()
    opened: list[Path] = []
    read_text = Path.read_text

    def counting(path: Path, *rest: object, **more: object) -> str:
        opened.append(path)
        return read_text(path, *rest, **more)

    monkeypatch.setattr(Path, "read_text", counting)
    models.resolve("english")
    models.decoding(None, {"beam": 5})
    models.decoding("english", {})
    models.table()
    assert [path.name for path in opened] == ["english.json"]


def test_listing_models_loads_nothing_heavy_and_help_does_not_list_them() -> None:
    for code, absent in (
        (
            "import asr.pretrained.registry; asr.pretrained.registry.table()",
            {"numpy", "torch", "soundfile"},
        ),
        ("import asr.cli.main", {"asr.pretrained.registry", "numpy"}),
    ):
        code += "; import sys; print(*sys.modules)"
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
        assert not absent & set(run.stdout.split())
