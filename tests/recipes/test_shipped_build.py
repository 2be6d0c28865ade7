"""The script that builds the recogniser in the package: its grids, and what it refuses."""

import runpy
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import soundfile
from paths import ROOT
from tone_network import RATE, speak

from asr.errors import AsrError
from asr.settings.pruning import PruningSettings
from asr.settings.run import Run
from asr.train.grid import Grid, read_grid, settings_of

RECIPES = ROOT / "recipes" / "shipped"
MAIN = runpy.run_path(str(RECIPES / "build.py"))["main"]


def differing(first: Run, second: Run) -> set[str]:
    """Sections in which two runs differ; name, group and label are left out."""
    one, other = asdict(first), asdict(second)
    return {key for key in one if one[key] != other[key]} - {"name", "group", "label"}


def test_the_dense_network_differs_from_the_sparse_one_only_in_pruning_and_teacher() -> None:
    plan = read_grid(RECIPES / "grid.yaml", ["data.root=somewhere"])
    for dense_name, sparse_name, small_name in (
        ("stage4", "sparse-stage4", "small-stage4"),
        ("stage5", "sparse-stage5", "small-stage5"),
        ("stage6", "sparse-stage6", "small-stage6"),
        ("stage7", "sparse-stage7", "small-stage7"),
        ("dense", "sparse", "small"),
    ):
        names = (dense_name, sparse_name, small_name)
        dense, sparse, small = (settings_of(plan, name) for name in names)
        assert differing(dense, sparse) == {"pruning", "distillation"}
        assert dense.pruning == PruningSettings()
        assert differing(dense, small) == set()
        assert plan.run(sparse_name).teacher == "stage3"
        assert dense.data.root == "somewhere"
    for stage in (1, 2, 3):
        dense, name = settings_of(plan, f"stage{stage}"), f"small-stage{stage}"
        assert differing(dense, settings_of(plan, name)) == set()
        assert plan.run(name).match == "sparse-stage4"
    for name, last in (("", "dense"), ("small-", "small")):
        chain = [plan.run(n).init for n in (*(f"{name}stage{n}" for n in range(2, 8)), last)]
        assert chain == [f"{name}stage{n}" for n in range(1, 8)]
    stages = [*(f"sparse-stage{n}" for n in (4, 5, 6, 7)), "sparse"]
    assert [plan.run(name).init for name in stages] == ["stage3", *stages[:-1]]
    for name in stages[1:]:
        assert settings_of(plan, name).pruning.method == "fixed_mask"


def test_runs_with_synthetic_speech_find_the_texts_that_are_spoken() -> None:
    plan = MAIN.__globals__["with_text_files"](read_grid(RECIPES / "grid.yaml", []), Path("runs"))
    lines, digits = [str(Path("runs") / name) for name in ("lines.txt", "digits.txt")]
    for name, data in {r.name: settings_of(plan, r.name).data for r in plan.runs}.items():
        later = ("stage5", "stage6", "stage7", "dense", "sparse", "small")
        texts = {"stage4": lines} | dict.fromkeys(later, digits)
        stage = name.split("-")[-1]
        assert data.spoken.text == ([texts[stage]] if stage in texts else []), name
        assert ("spoken:train" in data.train) == bool(data.spoken.text)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_runs_of_other_seeds_differ_only_in_the_seed(seed: int) -> None:
    plan = read_grid(RECIPES / "seeds.yaml", [])
    end = "" if seed == 1 else f"-seed{seed}"
    dense, sparse, small = (settings_of(plan, n + end) for n in ("dense", "sparse", "small"))
    assert differing(dense, sparse) == {"pruning"}
    assert differing(dense, small) == set()
    assert plan.run(f"small{end}").match == f"sparse{end}"
    assert dense.seed == seed
    assert differing(replace(dense, seed=1), settings_of(plan, "dense")) == set()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["speech"], "--text FOLDER"),
        (["speech", "--seeds", "--text", "books"], "not for --seeds"),
        (["speech", "--text", "books", "model.hiden=2"], "hiden"),
        (["speech", "--seeds", "--by-age"], "not for --seeds"),
        (["speech", "--seeds"], "speech: not a folder"),
        (["data.root=speech", "--seeds"], "not a folder"),
    ],
)
def test_wrong_arguments_are_refused(words: list[str], message: str) -> None:
    with pytest.raises(AsrError, match=message):
        MAIN(words)


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    """A set of each kind, and noises."""
    folder = tmp_path / "speech"
    texts = {"train-a": "AB CD", "train-coffee": "FED", "dev-a": "BAD", "test-a": "CAFE"}
    for subset, text in texts.items():
        for speaker in ("1", "2"):
            chapter = folder / subset / speaker / "1"
            chapter.mkdir(parents=True)
            soundfile.write(chapter / f"{speaker}-1-0.flac", speak(text), RATE)
            (chapter / f"{speaker}-1.trans.txt").write_text(f"{speaker}-1-0 {text}\n")
    ages = "subset\tutterance\tage\ntest-a\t1-1-0\t30\ntest-a\t2-1-0\t9\n"
    (folder / "utterances.tsv").write_text(ages)
    (folder / "noise" / "esc10").mkdir(parents=True)
    (folder / "noise" / "esc10" / "dog.wav").touch()
    table = "file\tlicence\tauthor\nesc10/dog.wav\tCC0\tZoe\n"
    (folder / "noise" / "noise.tsv").write_text(table)
    (folder / "books-a.txt").write_text("A BOOK\nTHIS IS A BOOK\n")
    return folder


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[str]]:
    """The commands that the script ran; nothing is really trained or measured."""
    monkeypatch.setenv("ASR_RUNS", str(tmp_path / "runs"))
    ran: list[list[str]] = []

    def run(words: list[str]) -> None:
        ran.append(words)
        if words[1:4] == ["asr", "lm", "train"]:
            Path(words[words.index("-o") + 1]).write_bytes(bytes(1000))

    def train(plan: Grid, results: Path) -> None:
        texts = {text for r in plan.runs for text in settings_of(plan, r.name).data.spoken.text}
        ran.append(["trained", *texts])

    tuned = {"beam": 256, "lm_weight": 0.6000001, "word_bonus": 1.0, "unknown_score": -16.0}
    for name, value in {
        "run": run,
        "train": train,
        "tuned_options": lambda _: tuned,
        "calibrate": lambda *_: Path("calibrated.asr"),
        "report": lambda *_: None,
        "pocketsphinx_version": lambda: "5",
        "synthesisers": SimpleNamespace(require=lambda _: None),
    }.items():
        monkeypatch.setitem(MAIN.__globals__, name, value)
    return ran


def arguments(speech: Path, *more: str) -> list[str]:
    sets = ["data.train=[train-a,train-coffee,spoken:train]", "data.dev=[dev-a]"]
    return [str(speech), *sets, *more, "--text", str(speech), "--test", "test-a", "--by-age"]


def test_settings_and_sets_reach_every_step(
    speech: Path, commands: list[list[str]], tmp_path: Path
) -> None:
    noise = speech / "noise" / "esc10"
    MAIN([*arguments(speech, f"augment.noise_folder={noise}"), "test-a"])
    lm, trained, benchmark, package = commands
    assert lm[1:4] == ["asr", "lm", "train"]
    folder = tmp_path / "runs" / "shipped"
    lines, only_digits = folder / "lines.txt", folder / "digits.txt"
    assert set(trained) == {"trained", str(lines), str(only_digits)}, (
        "the texts are written before the networks are trained"
    )
    book, *digits = lines.read_text().splitlines()
    assert book == "THIS IS A BOOK"
    for words in (" ".join(digits), only_digits.read_text()):
        assert set(words.split()) == set(MAIN.__globals__["DIGITS"])
    transcripts = tmp_path / "runs" / "shipped" / "transcripts.txt"
    assert transcripts.read_text() == "AB CD\nAB CD\n"
    assert benchmark[-6:] == ["--dev", "dev-a", "--test", "test-a", "--by-age", "test-a"]
    assert "--lm-weight=0.6000001" in package


def test_what_a_later_step_needs_is_checked_before_the_trainings(
    speech: Path, commands: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = arguments(speech)
    for refused, fragment in (
        ([*words[:4], "nowhere", *words[5:]], "nowhere: no books"),
        ([*words[:-2], "test-b"], "test-b"),
        ([*words, "test-c"], "not among the sets of --test: test-c"),
        ([words[0], "data.dev=[dev-b]", *words[3:]], "no such folder|dev-b"),
        ([*words[:3], "data.train=[train-b]", *words[3:]], "train-b"),
    ):
        with pytest.raises(AsrError, match=fragment):
            MAIN(refused)
    (speech / "utterances.tsv").unlink()
    with pytest.raises(AsrError, match=r"utterances\.tsv: cannot be read"):
        MAIN([*words, "test-a"])

    def missing() -> str:
        raise AsrError("PocketSphinx is not installed")

    def no_synthesiser(names: list[str]) -> None:
        raise AsrError(f"{', '.join(names)}: not installed")

    for name, value in (
        ("pocketsphinx_version", missing),
        ("synthesisers", SimpleNamespace(require=no_synthesiser)),
    ):
        with monkeypatch.context() as patch:
            patch.setitem(MAIN.__globals__, name, value)
            with pytest.raises(AsrError, match="not installed"):
                MAIN(words)
    assert commands == []
    monkeypatch.setitem(MAIN.__globals__, "LM_BYTES", 999)
    for _ in range(2):  # once trained, once found
        with pytest.raises(AsrError, match="more than the 999 that ship"):
            MAIN(words)
    assert ["trained"] not in commands
