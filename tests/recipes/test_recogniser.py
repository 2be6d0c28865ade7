"""The benchmark of whole recognisers has the right figures for networks of known errors."""

import json
import os
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import soundfile
import torch
from benchmark_scripts import FOLDER, script
from lib import contestants
from lib.rates import character_rate, rate
from lib.recognisers import Job, Outcome, pocketsphinx_bytes, run, work
from paths import ROOT
from tone_network import LETTERS, RATE, speak, tone_model

from asr.corpus import sources
from asr.decode.lm.build import build_model
from asr.decode.lm.file import write_lm
from asr.decode.lm.train import number_words, train_ngrams
from asr.decode.lm.tune import Trial
from asr.errors import AsrError
from asr.evaluate.wer import Row
from asr.features.settings import Frontend
from asr.model.file import save_model
from asr.model.pack import pack
from asr.report import report
from asr.text.tokenizer import CharacterTokenizer

SPEECH = ROOT.parent / "shared" / "speech"
SPEAKERS = {"1": ("AB CD", "30"), "2": ("BAD CAFE", "12"), "3": ("FED", "13")}
"""Text and age of each speaker."""


@pytest.fixture(autouse=True)
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def recogniser() -> ModuleType:
    return script("recogniser")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sets of tones, three networks (one does not recognise A), a language model."""
    folder = tmp_path_factory.mktemp("place")
    for subset in ("dev-tones", "test-tones"):
        for speaker, (text, _) in SPEAKERS.items():
            chapter = folder / subset / speaker / "1"
            chapter.mkdir(parents=True)
            soundfile.write(chapter / f"{speaker}-1-0.flac", speak(text), RATE)
            (chapter / f"{speaker}-1.trans.txt").write_text(f"{speaker}-1-0 {text}\n")
    ages = [f"test-tones\t{speaker}-1-0\t{age}\n" for speaker, (_, age) in SPEAKERS.items()]
    (folder / "utterances.tsv").write_text("subset\tutterance\tage\n" + "".join(ages))
    model, save = tone_model(), (CharacterTokenizer(), Frontend(normalise="none"))
    save_model(folder / "exact.model", model, *save)
    pack(folder / "exact.model", folder / "exact.asr")
    with torch.no_grad():
        for parameter in model.parameters():  # no zeros, but the same texts
            parameter[parameter == 0] = 1e-7
    save_model(folder / "dense.asr", model, *save)
    with torch.no_grad():
        without_a = tone_model()
        dict(without_a.named_parameters())["rnn.0.forward_cell.weight_ih_l0"][
            LETTERS.index("A")
        ] = 0
    save_model(folder / "without-a.model", without_a, *save)
    pack(folder / "without-a.model", folder / "without-a.asr")
    sentences = [text for text, _ in SPEAKERS.values()] * 3
    trained = train_ngrams(number_words(sentences), 2, (1,))
    write_lm(folder / "tones.lm", build_model(trained.ngrams))
    return folder


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """Jobs that were done; they run in this process, to import torch only once."""
    done: list[Job] = []

    def here(job: Job) -> Outcome:
        done.append(job)
        return work(job)

    monkeypatch.setattr(contestants, "run", here)
    return done


def words(place: Path, output: Path, *more: str, **networks: str) -> list[str]:
    given = [f"--network={label}={place / file}" for label, file in networks.items()]
    sets = ["--dev", "dev-tones", "--test", "test-tones", "--by-age", "test-tones"]
    work = output.parent / "cache"
    return [str(place), "-o", str(output), "--work", str(work), *sets, *given, *more]


def rows(path: Path) -> dict[tuple[str, str], dict[str, Any]]:
    plain = json.loads(path.read_text())
    return {(row["network"], row["decoder"]): row for row in plain["rows"]}


def test_error_rates_and_differences_are_those_of_the_letter_that_is_not_recognised(
    recogniser: ModuleType, place: Path, tmp_path: Path, ran: list[Job]
) -> None:
    path = tmp_path / "records" / "all.json"
    lm = ["--lm", str(place / "tones.lm"), "--tuned", "dense=0.3,1,0"]
    assert (
        recogniser.main(words(place, path, *lm, dense="dense.asr", without_a="without-a.asr")) == 0
    )
    found = rows(path)
    who = [(n, d) for n in ("dense", "without_a") for d in ("greedy", "beam with LM")]
    assert list(found) == who
    dense, without_a = found["dense", "greedy"], found["without_a", "greedy"]
    assert dense["wer test-tones"]["wer"] == 0
    assert without_a["wer test-tones"]["wer"] == pytest.approx(3 / 5)
    assert without_a["wer test-tones adults"]["wer"] == pytest.approx(1 / 3)
    assert without_a["wer test-tones children"]["wer"] == 1
    assert without_a["cer test-tones"]["value"] == pytest.approx(3 / 16)
    assert dense["nonzeros"] == dense["parameters"] > 2 * without_a["nonzeros"]
    lm_bytes = (place / "tones.lm").stat().st_size
    assert found["without_a", "beam with LM"]["bytes"] == without_a["model_bytes"] + lm_bytes
    assert without_a["bytes"] == (place / "without-a.asr").stat().st_size
    assert without_a["backend"].startswith("native")
    for row in found.values():
        assert row["rtf"] > 0 < row["wall_rtf"]
        assert row["load_seconds"] > 0
        assert row["peak_bytes"] > 2**20

    record = json.loads(path.read_text())
    [difference, with_lm] = record["tables"][0]["rows"]
    assert (difference["network"], difference["baseline"]) == ("without_a", "dense")
    assert difference["change test-tones"]["wer"] == pytest.approx(3 / 5)
    assert difference["time_ratio"] == pytest.approx(without_a["rtf"] / dense["rtf"], rel=1e-3)
    assert difference["same_run"]
    assert with_lm["decoder"] == "beam with LM"

    networks = record["details"]["networks"]
    tried = networks["dense"]["backends"]
    assert set(tried) == {"torch", "native"}
    chosen = min(tried, key=tried.get)
    assert dense["backend"].startswith(chosen)
    assert (networks["dense"]["lm_weight"], networks["dense"]["word_bonus"]) == (0.3, 1)
    assert len(networks["without_a"]["tuning"]) == 16
    assert networks["without_a"]["tuning"][0][:2] == [
        networks["without_a"]["lm_weight"], networks["without_a"]["word_bonus"]
    ]  # fmt: skip
    used = {job.decoding.lm_weight for job in ran if job.decoding.decoder == "beam"}
    assert used == {0.3, networks["without_a"]["lm_weight"]}
    assert [len(job.recordings) for job in ran] == [3] * 6

    results = tmp_path / "RESULTS.md"
    results.write_text("<!-- asr report: recogniser -->\n<!-- end: recogniser -->\n")
    report(path.parent, tmp_path / "out", results)
    text = results.read_text()
    assert "| Network | Decoder | WER %, test-tones | WER %, test-tones adults |" in text
    assert "| without_a | greedy | 60.0 (" in text
    assert "| without_a | greedy | dense | +60.0 (" in text
    assert "<summary>Costs</summary>" in text
    assert (
        f"| without_a | greedy | {without_a['parameters']:,} | {without_a['nonzeros']:,} |" in text
    )


def test_cached_results_are_used_and_those_of_a_later_run_are_marked(
    recogniser: ModuleType,
    place: Path,
    tmp_path: Path,
    ran: list[Job],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "r" / "later.json"
    clock = iter(f"2026-01-{day:02}T00:00:00+00:00" for day in range(1, 32))
    monkeypatch.setattr("lib.cache._now", lambda: next(clock))
    recogniser.main(words(place, path, exact="exact.asr"))
    assert len(ran) == 1
    assert "NOT MEASURED IN ONE RUN" not in path.read_text()
    recogniser.main(words(place, path, exact="exact.asr", without_a="without-a.asr"))
    assert [job.model for job in ran] == [
        str(place / name) for name in ("exact.asr", "without-a.asr")
    ]
    assert rows(path)["exact", "greedy"]["wer test-tones"]["wer"] == 0
    [note] = [n for n in json.loads(path.read_text())["notes"] if n.startswith("NOT MEASURED")]
    assert "exact greedy in the run of 2026-01-01" in note
    notes = "NOT MEASURED IN ONE RUN", "Measured in the run of 2026-01-01"
    recogniser.main(words(place, path, exact="exact.asr"))
    found = [n for n in json.loads(path.read_text())["notes"] if n.startswith(notes)]
    assert len(ran) == 2
    assert len(found) == 1
    assert found[0].startswith(notes[1])
    assert "not in the run that wrote this record" in found[0]
    assert "revision" in found[0]
    recogniser.main(words(place, path, exact="without-a.asr"))
    assert len(ran) == 3, "another network of that name was cached"
    assert rows(path)["exact", "greedy"]["wer test-tones"]["wer"] == pytest.approx(3 / 5)
    recogniser.main(words(place, path, "--again", exact="without-a.asr"))
    assert len(ran) == 4


def test_a_tuning_is_cached_while_its_grid_is_the_same(
    recogniser: ModuleType,
    place: Path,
    tmp_path: Path,
    ran: list[Job],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "r" / "tuned.json"
    arguments = words(place, path, "--lm", str(place / "tones.lm"), exact="exact.asr")
    monkeypatch.setattr(contestants, "tune_on", lambda *_: [Trial(0.2, 0.5, 0.25)])
    recogniser.main(arguments)
    [cached] = (tmp_path / "r" / "cache").glob("exact,*tuning.json")
    plain = json.loads(cached.read_text())
    cached.write_text(json.dumps({**plain, "revision": "before"}))
    monkeypatch.setattr(contestants, "tune_on", lambda *_: [Trial(0.4, 0.5, 0.25)])
    recogniser.main(arguments)
    [note] = [n for n in json.loads(path.read_text())["notes"] if "Tuned in the run" in n]
    assert note.endswith("with revision before.")
    assert json.loads(path.read_text())["details"]["networks"]["exact"]["lm_weight"] == 0.2
    monkeypatch.setattr(contestants, "WEIGHTS", (0.1, 0.2))
    recogniser.main(arguments)
    assert json.loads(path.read_text())["details"]["networks"]["exact"]["lm_weight"] == 0.4


def test_a_part_of_a_set_is_marked_as_not_a_result(
    recogniser: ModuleType, place: Path, tmp_path: Path, ran: list[Job]
) -> None:
    path = tmp_path / "r" / "part.json"
    recogniser.main(
        words(place, path, "--by-age", "--limit=2", exact="exact.asr", without_a="without-a.asr")
    )
    assert [len(job.recordings) for job in ran] == [2, 2]
    plain = json.loads(path.read_text())
    assert plain["notes"][0].startswith("NOT A RESULT: only 2 utterances")
    assert "only 2 utterances" in plain["label"]
    assert "(only 2 utterances)" in plain["columns"][2]["heading"]
    assert rows(path)["without_a", "greedy"]["wer test-tones"]["words"] == 3


@pytest.mark.parametrize(
    ("more", "fragment"),
    [
        ([], "nothing to measure"),
        (["--network", "a.asr"], "LABEL=FILE"),
        (["--network=a=x", "--network=a=y"], "every label once"),
        (["--network=a=x", "--lm-weight", "1"], "both, or neither"),
        (["--network=a=x", "--tuned", "b=1,1,0"], "no --network has the label b"),
        (["--network=a=x", "--tuned", "a=1"], "a weight, a word bonus"),
        (["--network=a=x", "--tuned", "a=1,1,0"], "need --lm"),
        (["--network=a=x", "--limit", "0"], "at least 1"),
        (["--network=a=x"], "x: cannot be read"),
        (["--network=a=b=x"], "b=x: cannot be read"),
        (["--network=a=x", "--by-age", "test-tone"], "not among the sets of --test: test-tone"),
        (["--network=a=x", "--test", "dev-tones"], "nothing after it"),
    ],
)
def test_impossible_arguments_are_refused(
    recogniser: ModuleType, place: Path, tmp_path: Path, more: list[str], fragment: str
) -> None:
    if "dev-tones" in more:
        (tmp_path / "dev-tones").symlink_to(place / "dev-tones")
        place, more = tmp_path, [*more, "--by-age", "dev-tones"]
    with pytest.raises(AsrError, match=fragment):
        recogniser.main([*words(place, tmp_path / "r" / "x.json"), *more])


def test_an_age_that_is_not_known_is_named(
    recogniser: ModuleType, place: Path, tmp_path: Path
) -> None:
    (tmp_path / "test-tones").symlink_to(place / "test-tones")
    table = (place / "utterances.tsv").read_text()
    for text, fragment in (
        (table.replace("2-1-0\t12", "2-1-0\t-"), "age of the speaker of 2-1-0"),
        (table.replace("\t12\n", "\t40\n"), "no utterances of children"),
        (table.replace("age\n", "years\n"), "no column 'age'"),
    ):
        (tmp_path / "utterances.tsv").write_text(text)
        arguments = words(tmp_path, tmp_path / "r" / "x.json", exact=str(place / "exact.asr"))
        with pytest.raises(AsrError, match=fragment):
            recogniser.main(arguments)


def test_a_separate_process_gives_the_same_texts_and_its_error_is_reported(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text("import time\ntime.sleep(2)\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{FOLDER.parents[1]}")
    paths = tuple(str(place / "test-tones" / s / "1" / f"{s}-1-0.flac") for s in SPEAKERS)
    found = run(Job(paths, str(place / "exact.asr"), repeats=2))
    assert found.texts == [text for text, _ in SPEAKERS.values()]
    assert len(found.seconds) == len(found.cpu_seconds) == 3
    assert found.load_seconds > 2, "loading begins with the process"
    assert 10 * 2**20 < found.peak_bytes < 150 * 2**20, "it loads more than it needs"
    with pytest.raises(AsrError, match=r"nothing\.asr"):
        run(Job(paths, str(tmp_path / "nothing.asr")))


def test_the_character_rate_is_that_of_the_score_and_lies_in_its_interval() -> None:
    pairs = [("ABCD", "ABCD"), ("EFGH IJ", "EFG IK"), ("KL", "KLM"), ("NO", "")]
    found = [Row(str(i), "", r, h) for i, (r, h) in enumerate(pairs)]
    cer = character_rate(found)
    assert cer["value"] == pytest.approx(5 / 15)
    assert cer["value"] == rate(found)["cer"]
    assert 0 <= cer["low"] < cer["value"] < cer["high"]


def test_pocketsphinx_recognises_speech() -> None:
    pytest.importorskip("pocketsphinx")
    if not (SPEECH / "dev-so762").is_dir():
        pytest.skip("the recorded speech is not here")
    utterance = sources.resolve(str(SPEECH / "dev-so762"))[5]
    found = work(Job((utterance.audio_filepath,)))
    assert found.texts[0].upper() == utterance.text == "PHONE PARTS TICKETS"
    assert found.described.startswith("pocketsphinx 5")


def test_the_size_of_pocketsphinx_is_known() -> None:
    pytest.importorskip("pocketsphinx")
    sizes = pocketsphinx_bytes()
    assert 25e6 < sizes["lm"] < 30e6
    assert 8e6 < sizes["model"] < 15e6
    assert sizes["installed"] > sizes["lm"] + sizes["model"]
