"""The script that builds the recogniser in the package: its grids, and what it refuses."""

import math
import runpy
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import pytest
import soundfile
from paths import ROOT
from tone_network import RATE, speak

from asr.errors import AsrError
from asr.model.shapes import parameter_shapes
from asr.settings.pruning import PruningSettings
from asr.settings.run import Run
from asr.train.grid import Grid, read_grid, settings_of

RECIPES = ROOT / "recipes" / "shipped"
MAIN = runpy.run_path(str(RECIPES / "build.py"))["main"]


def differing(first: Run, second: Run) -> set[str]:
    """Sections in which two runs differ; name, group and label are left out."""
    one, other = asdict(first), asdict(second)
    return {key for key in one if one[key] != other[key]} - {"name", "group", "label"}


def nonzeros(settings: Run) -> int:
    """Parameters of the network, of pruned matrices those that bank pruning keeps."""
    total = 0
    for name, shape in parameter_shapes(settings.model).items():
        size = math.prod(shape)
        if settings.pruning.method != "none" and name.startswith("rnn.") and len(shape) == 2:
            size = shape[0] * math.ceil(shape[1] * (1 - settings.pruning.target))
        total += size
    return total


def test_networks_differ_only_in_width_cell_pruning_and_what_streaming_needs() -> None:
    plan = read_grid(RECIPES / "grid.yaml", ["data.root=somewhere"])
    runs = {run.name: settings_of(plan, run.name) for run in plan.runs}
    dense = runs["dense"]
    assert dense.data.root == "somewhere"
    assert dense.pruning == PruningSettings()
    assert differing(dense, runs["wide-sparse"]) == {"model", "pruning"}
    assert differing(dense, runs["sparse"]) == {"pruning"}
    for name in ("small", "medium", "rnn"):
        assert differing(dense, runs[name]) == {"model"}
    for name in ("forward", "rnn"):
        assert differing(runs[name], runs[f"{name}-sparse"]) == {"pruning"}
    assert differing(dense, runs["forward"]) == {"model", "frontend"}
    longer = differing(runs["wide-sparse"], runs["english"])
    assert longer == {"init", "pruning", "augment", "optimiser", "training"}
    assert differing(runs["english"], runs["final"]) == {"model", "optimiser", "training"}
    for settings in runs.values():
        assert settings.model.bidirectional != (settings.frontend.normalise == "running")


def test_the_wide_network_keeps_less_than_a_quarter_of_the_dense_one_and_as_many_as_the_small() -> (
    None
):
    plan = read_grid(RECIPES / "grid.yaml", [])
    wide, dense, small = (
        nonzeros(settings_of(plan, name)) for name in ("wide-sparse", "dense", "small")
    )
    assert wide < 0.25 * dense
    assert small == pytest.approx(wide, rel=0.02)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere", "--text", "books"], "nowhere: not a folder"),
        (["data.root=speech", "--text", "books"], "not a folder"),
        ([str(ROOT), "--text", "books", "model.hiden=2"], "hiden"),
    ],
)
def test_wrong_arguments_are_refused(words: list[str], message: str) -> None:
    with pytest.raises(AsrError, match=message):
        MAIN(words)


@pytest.fixture
def speech(tmp_path: Path) -> Path:
    """A set of each kind, and noises."""
    folder = tmp_path / "speech"
    texts = {"train-a": "A CAB AD", "train-coffee": "FED", "dev-a": "BAD", "test-a": "CAFE"}
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

    def train(plan: Grid) -> None:
        texts = {text for r in plan.runs for text in settings_of(plan, r.name).data.spoken.text}
        ran.append(["trained", *texts])

    tuned = {"beam": 256, "lm_weight": 0.6000001, "word_bonus": 1.0, "unknown_score": -16.0}
    tuned["prior_weight"] = 0.4
    for name, value in {
        "run": run,
        "train": train,
        "tuned_options": lambda *_: tuned,
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
    lm, trained, cost, benchmark, package = commands
    assert cost[1].endswith("/runs/shipped/wide-sparse")
    assert not any(word.endswith("/english") for word in cost)
    assert lm[1:4] == ["asr", "lm", "train"]
    lines = tmp_path / "runs" / "shipped" / "lines.txt"
    assert trained == ["trained", str(lines)]
    book, everyday, *digits = lines.read_text().splitlines()
    assert book == "THIS IS A BOOK"
    assert everyday == "A CAB AD"
    assert set(" ".join(digits).split()) == set(MAIN.__globals__["DIGITS"])
    transcripts = tmp_path / "runs" / "shipped" / "transcripts.txt"
    assert transcripts.read_text() == "A CAB AD\nA CAB AD\n"
    assert benchmark[-6:] == ["--dev", "dev-a", "--test", "test-a", "--by-age", "test-a"]
    assert "--lm-weight=0.6000001" in package


def test_some_runs_alone_are_trained_and_measured(
    speech: Path, commands: list[list[str]], tmp_path: Path
) -> None:
    trained = ["trained", str(tmp_path / "runs" / "shipped" / "lines.txt")]
    MAIN([*arguments(speech), "--only", "small", "dense", "--train"])
    assert commands == [trained]
    commands.clear()
    MAIN([*arguments(speech), "--only", "dense", "final"])
    assert commands[1] == trained
    cost, benchmark, package = commands[2:]
    assert [Path(word).name for word in cost[1:5]] == ["wide-sparse", "dense", "--reach", "dense"]
    assert sum(word.startswith("--network") for word in benchmark) == 4
    assert Path(package[0]).name == "package.py"
    for words, message in (
        (["smal", "--train"], "not runs of this grid: smal"),
        (["dense"], "final is what ships: name it too, or add --train"),
    ):
        with pytest.raises(AsrError, match=message):
            MAIN([*arguments(speech), "--only", *words])


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
