"""Builds the recogniser that comes with the package, from recordings and books to its files.

    python recipes/shipped/build.py SPEECH [key=value for every run ...] --text BOOKS \\
        [--noise FOLDER] [--only RUN ...] [--train] [--test SET ...] [--by-age SET ...]

SPEECH holds the training and dev sets that `training.yaml` names and the test sets of `--test`,
each in LibriSpeech's layout, and `utterances.tsv` with the ages for the sets of `--by-age`. BOOKS
holds `books-*.txt.xz` or `books-*.txt`, one sentence a line. Recordings of the noise folder are
mixed into the training speech; name their authors in `card.md`. The script first checks that all of
this is there and that PocketSphinx and the synthesiser are installed. Then it takes six steps, and
skips what is done:

1. write the lines that the synthesiser speaks, and make the synthetic speech;
2. train a language model of at most 9 MB on the books and the training transcripts;
3. train the networks of `grid.yaml`, two at a time with one thread each, about twenty hours of
   processor time; with `--train`, stop here;
4. measure them and PocketSphinx on the test sets: `recipes/results/recogniser/english.json`;
5. fit the confidences of the network that ships on the dev sets, with the language model;
6. write `asr/pretrained/english.*` and the sections of RESULTS.md.

Records and packed networks go to `recipes/results/shipped`. With `--only` the other runs of
`grid.yaml` are neither trained nor measured, but for those that the named ones start from. For
other recordings or a wider network change `training.yaml`, or pass key=value; for other test sets
pass `--test` and `--by-age`. What the card says of the data is in `card.md`.
"""

import argparse
import json
import os
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from asr.corpus import sources
from asr.corpus.manifest import Utterance, write_manifest
from asr.corpus.spoken import synthesisers
from asr.decode import DecoderOptions
from asr.errors import AsrError
from asr.evaluate.calibrate import calibrate_to
from asr.files import atomic_write_text
from asr.report import report
from asr.settings.data import DataSettings
from asr.settings.run import Run
from asr.text.read import read_sentences
from asr.train.grid import Grid, copy, folder_of, read_grid, run_grid, selected, settings_of

HERE = Path(__file__).parent
RECIPES = HERE.parent
sys.path.append(str(RECIPES / "benchmarks"))
from lib.card import LM_BYTES, read_card  # noqa: E402
from lib.recognisers import pocketsphinx_version  # noqa: E402
from lib.subsets import TEST, split_sets, subsets  # noqa: E402

RECORD = RECIPES / "results" / "recogniser" / "english.json"
NOT_IN_LM = "train-coffee"
"""345 orders of 55 words, whose phrases would crowd the language model."""
SHIPPED = "final"
"""The run of the grid whose network is put into the package."""
RESULTS = RECIPES / "results" / "shipped"
COST = RECIPES / "results" / "training_cost" / "shipped.json"
REACHED = ("small", "dense")
"""Runs whose error rates the others reach after some epochs, or never."""
MOST_BYTES = 8_000_000
"""Of a packed network that is put beside its record."""
SYNTHETIC = "spoken:"
"""Begins the names of sets of synthetic speech."""
DIGITS = ("ZERO", "ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX", "SEVEN", "EIGHT", "NINE")
LINES_FILE = "lines.txt"
"""File of text for the synthesiser, as `grid.yaml` names it."""
BOOK_LINES, EVERYDAY_LINES, DIGIT_LINES = 9_000, 2_500, 1_000
"""Lines in LINES_FILE; two hours of speech need about a sixth of them."""
LM = ["--order", "4", "--cutoffs", "1,1,2,2", "--min-count", "3", "--prune", "2e-8"]
BEAM = 256
UNKNOWN_SCORE = -24.0
"""Of words outside the vocabulary. Beam and score were chosen on the dev sets; see LOG.md."""


def run(words: list[str]) -> None:
    """Run one of our commands. Raises AsrError if it fails; it has printed why."""
    print("+", " ".join(words), flush=True)
    if subprocess.run([sys.executable, *words]).returncode:
        raise AsrError(f"this command failed: {' '.join(words)}")


def train(plan: Grid) -> None:
    """Train the runs that are not finished; copy records and packed networks to RESULTS.

    Raises AsrError if one fails.
    """
    failed = run_grid(plan, RESULTS, Console(markup=False, highlight=False))
    for run in plan.runs:
        if run.name in failed:
            continue
        packed = folder_of(plan, run.name) / "packed.asr"
        if packed.is_file() and packed.stat().st_size <= MOST_BYTES:
            copy(packed, RESULTS / f"{run.name}.asr")
    if failed:
        raise AsrError(f"failed: {', '.join(failed)}")


def training_cost(plan: Grid) -> None:
    """The record of what the trainings from scratch cost."""
    scratch = [run.name for run in plan.runs if not run.init]
    folders = [str(folder_of(plan, name)) for name in scratch]
    reached = [name for name in scratch if name in REACHED]
    run([str(HERE / "cost.py"), *folders, "--reach", *reached, "-o", str(COST)])


def language_model(text: Path, output: Path, data: DataSettings) -> None:
    """Train on books and training transcripts. Raises AsrError if the file is too big to ship."""
    if not output.exists():
        books = books_in(text)
        utterances: list[Utterance] = []
        for entry in data.train:
            if Path(entry).name != NOT_IN_LM and not entry.startswith(SYNTHETIC):
                utterances += sources.resolve(entry, data.root, data.spoken)
        output.parent.mkdir(parents=True, exist_ok=True)
        transcripts = output.with_name("transcripts.txt")
        atomic_write_text(transcripts, "".join(f"{u.text}\n" for u in utterances))
        run(["-m", "asr", "lm", "train", *books, str(transcripts), "-o", str(output), *LM])
    if (size := output.stat().st_size) > LM_BYTES:
        raise AsrError(
            f"{output}: {size:,} bytes, more than the {LM_BYTES:,} that ship; remove it and raise "
            "--prune in LM of recipes/shipped/build.py"
        )


def digits(draw: random.Random, count: int) -> list[str]:
    """Strings of three to seven digits."""
    return [" ".join(draw.choice(DIGITS) for _ in range(draw.randint(3, 7))) for _ in range(count)]


def write_lines_to_speak(text: Path, data: DataSettings, output: Path) -> None:
    """Texts for the synthesiser: lines of the books, everyday sentences and strings of digits.

    Everyday sentences are the training transcripts of at most ten words.
    """
    draw = random.Random(1)
    lines = [line.strip() for line in read_sentences(books_in(text))]
    lines = [line for line in lines if 3 <= len(line.split()) <= 20 and len(line) <= 120]
    everyday = sorted(
        {
            u.text
            for entry in data.train
            if not entry.startswith(SYNTHETIC)
            for u in sources.resolve(entry, data.root, data.spoken)
            if 3 <= len(u.text.split()) <= 10 and not set(DIGITS).issuperset(u.text.split())
        }
    )
    spoken = draw.sample(lines, min(BOOK_LINES, len(lines)))
    spoken += draw.sample(everyday, min(EVERYDAY_LINES, len(everyday)))
    spoken += digits(draw, DIGIT_LINES)
    atomic_write_text(output, "".join(f"{line}\n" for line in spoken))


def books_in(text: Path) -> list[str]:
    """The files of books in a folder. Raises AsrError if there is none."""
    books = sorted(map(str, [*text.glob("books-*.txt.xz"), *text.glob("books-*.txt")]))
    if not books:
        raise AsrError(f"{text}: no books-*.txt.xz or books-*.txt in this folder")
    return books


def check_inputs(text: Path, test: Sequence[str], by_age: Sequence[str], settings: Run) -> None:
    """Raises AsrError for what would stop a later step: the trainings before it take hours."""
    pocketsphinx_version()
    books_in(text)
    data = settings.data
    for entry in data.train:
        if entry.startswith(SYNTHETIC):
            synthesisers.require(data.spoken.synthesisers)
        else:
            sources.resolve(entry, data.root, data.spoken)
    sets = {
        name: sources.resolve(under(data, name), data.root, data.spoken)
        for name in [*data.dev, *test]
    }
    subsets(Path(data.root), {name: sets[name] for name in test}, by_age)
    read_card(HERE / "card.md")


def under(data: DataSettings, name: str) -> str:
    """Path of a dev or test set, where the benchmark looks for it."""
    return str(Path(data.root) / name)


def tuned_options(plan: Grid, record: Path) -> dict[str, Any]:
    """The decoder options with which the network that ships was measured."""
    network = json.loads(record.read_text())["details"]["networks"][plan.run(SHIPPED).label]
    names = ("beam", "lm_weight", "word_bonus", "prior_weight", "unknown_score")
    return {name: network[name] for name in names}


def calibrate(plan: Grid, data: DataSettings, lm: Path, record: Path) -> Path:
    """Fit the confidences of the packed network to its decoder; the new model file."""
    options = DecoderOptions("beam", lm=str(lm), **tuned_options(plan, record))
    folder = folder_of(plan, SHIPPED)
    dev = folder / "dev.jsonl"
    entries = [under(data, name) for name in data.dev]
    write_manifest(
        dev, [u for entry in entries for u in sources.resolve(entry, data.root, data.spoken)]
    )
    output = folder / "calibrated.asr"
    print(calibrate_to(folder / "packed.asr", str(dev), output, options))
    return output


def build(plan: Grid, settings: Run, text: Path, test: list[str], by_age: list[str]) -> None:
    """Steps 2 to 6."""
    data = settings.data
    lm = folder_of(plan, SHIPPED).with_name("english.lm")
    language_model(text, lm, data)
    train(plan)
    training_cost(plan)
    words = [str(RECIPES / "benchmarks" / "recogniser.py"), data.root, "-o", str(RECORD)]
    words += [f"--network={r.label}={folder_of(plan, r.name) / 'packed.asr'}" for r in plan.runs]
    words += [f"--lm={lm}", f"--beam={BEAM}", f"--unknown-score={UNKNOWN_SCORE:g}"]
    words += ["--pocketsphinx", "--dev", *data.dev, "--test", *test, "--by-age", *by_age]
    run(words)
    model = calibrate(plan, data, lm, RECORD)
    options = tuned_options(plan, RECORD)
    words = [str(HERE / "package.py"), str(model), str(lm), f"--record={RECORD}"]
    words += [f"--network={plan.run(SHIPPED).label}"]
    words += [f"--{key.replace('_', '-')}={value}" for key, value in options.items()]
    run(words)
    for results in (RESULTS, COST.parent, RECORD.parent):
        report(results, results, RECIPES / "RESULTS.md")


def only(plan: Grid, names: Sequence[str], *, train: bool) -> Grid:
    """The plan with these runs alone. Raises AsrError for unknown ones, or if none could ship."""
    plan = selected(plan, names)
    if not train and SHIPPED not in names:
        raise AsrError(f"--only: {SHIPPED} is what ships: name it too, or add --train")
    return plan


def main(words: list[str]) -> None:
    about = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=about)
    parser.add_argument("speech", type=Path)
    parser.add_argument("--text", type=Path, required=True, help="folder of books")
    parser.add_argument("--noise", type=Path, help="folder of noise recordings")
    parser.add_argument("--test", nargs="+", metavar="SET", help=f"default: {' '.join(TEST)}")
    parser.add_argument("--by-age", nargs="*", metavar="SET", help="test sets split by age")
    parser.add_argument("--only", nargs="+", metavar="RUN", help="of grid.yaml (default: all)")
    parser.add_argument("--train", action="store_true", help="stop when the networks are trained")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    arguments = parser.parse_intermixed_args(words)
    if not arguments.speech.is_dir():
        raise AsrError(f"{arguments.speech}: not a folder; SPEECH is the folder of the recordings")
    given = [f"data.root={os.path.abspath(arguments.speech)}"]
    if arguments.noise:
        given.append(f"augment.noise_folder={os.path.abspath(arguments.noise)}")
    given += arguments.overrides
    plan = read_grid(HERE / "grid.yaml", given)
    lines = folder_of(plan, SHIPPED).with_name(LINES_FILE)
    plan = read_grid(HERE / "grid.yaml", [*given, f"data.spoken.text=[{lines}]"])
    settings = settings_of(plan, SHIPPED)
    if arguments.only:
        plan = only(plan, arguments.only, train=arguments.train)
    test = arguments.test or list(TEST)
    by_age = split_sets(test, arguments.by_age)
    check_inputs(arguments.text, test, by_age, settings)
    if not lines.exists():
        write_lines_to_speak(arguments.text, settings.data, lines)
    if arguments.train:
        train(plan)
    else:
        build(plan, settings, arguments.text, test, by_age)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except AsrError as error:
        sys.exit(f"build: {error}")
