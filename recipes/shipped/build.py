"""Builds the recogniser that comes with the package, from recordings and books to its files.

    python recipes/shipped/build.py SPEECH [key=value for every run ...] --text BOOKS \\
        [--noise FOLDER] [--test SET ...] [--by-age SET ...]
    python recipes/shipped/build.py SPEECH --seeds [key=value for every run ...]

SPEECH holds the training and dev sets that `training.yaml` names and the test sets of `--test`,
each in LibriSpeech's layout, and `utterances.tsv` with the ages for the sets of `--by-age`. BOOKS
holds `books-*.txt.xz` or `books-*.txt`, one sentence a line. Recordings of the noise folder are
mixed into the training speech; name their authors in `card.md`. The script first checks that all of
this is there and that PocketSphinx and the synthesiser are installed. Then it takes five steps, and
skips what is done:

1. train a language model of at most 5 MB on the books and the training transcripts, and write the
   lines and the strings of digits that synthesisers speak in the last five stages;
2. train the networks of `grid.yaml`: in eight stages a dense network, a pruned one, and a small
   dense one with as many non-zeros (two trainings at a time with one thread each, about nine hours
   of processor time);
3. measure them and PocketSphinx on the test sets: `recipes/results/recogniser/english.json`;
4. fit the confidences of the sparse network on the dev sets, with the language model;
5. write `asr/pretrained/english.*` and the section of RESULTS.md.

For other recordings or a wider network change `training.yaml`, or pass key=value; for other test
sets pass `--test` and `--by-age`. What the card says of the data is in `card.md`. `--seeds` trains
and tests the networks of `seeds.yaml` instead.
"""

import argparse
import json
import os
import random
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
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
from asr.report import print_table, read_records, report
from asr.settings.data import DataSettings
from asr.settings.run import Run
from asr.text.read import read_sentences
from asr.train.grid import Grid, GridRun, folder_of, read_grid, run_grid, settings_of

HERE = Path(__file__).parent
RECIPES = HERE.parent
sys.path.append(str(RECIPES / "benchmarks"))
from lib.card import LM_BYTES, read_card  # noqa: E402
from lib.recognisers import pocketsphinx_version  # noqa: E402
from lib.subsets import TEST, split_sets, subsets  # noqa: E402

RECORD = RECIPES / "results" / "recogniser" / "english.json"
NOT_IN_LM = "train-coffee"
"""345 orders of 55 words, whose phrases would crowd the language model."""
NETWORKS = {
    "dense": "dense",
    "sparse": "sparse",
    "small dense": "small",
    "dense, third stage": "stage3",
}
"""Labels in tables, and names of runs of the grid."""
SHIPPED = "sparse"
SYNTHETIC = "spoken:"
"""Begins the names of sets of synthetic speech."""
DIGITS = ("ZERO", "ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX", "SEVEN", "EIGHT", "NINE")
LINES_FILE, DIGITS_FILE = "lines.txt", "digits.txt"
"""Files of text for the synthesisers, as `grid.yaml` names them."""
BOOK_LINES, DIGIT_LINES = 12_000, 1_200
"""In LINES_FILE; six hours of speech need about four in ten of them."""
ONLY_DIGIT_LINES = 1_500
"""In DIGITS_FILE; six tenths of an hour need two thirds of them."""
LM = ["--order", "4", "--cutoffs", "1,1,2,2", "--min-count", "3", "--prune", "8.2e-8"]
BEAM = 256
UNKNOWN_SCORE = -16.0
"""Of words outside the vocabulary. Beam and score were chosen on the dev sets after the first
training stage; see LOG.md."""


def run(words: list[str]) -> None:
    """Run one of our commands. Raises AsrError if it fails; it has printed why."""
    print("+", " ".join(words), flush=True)
    if subprocess.run([sys.executable, *words]).returncode:
        raise AsrError(f"this command failed: {' '.join(words)}")


def train(plan: Grid, results: Path) -> None:
    """Train the runs that are not finished. Raises AsrError if one fails."""
    if failed := run_grid(plan, results, Console()):
        raise AsrError(f"failed: {', '.join(failed)}")


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


def write_lines_to_speak(text: Path, folder: Path) -> None:
    """Texts for the synthesisers: short lines of the books with strings of digits; only digits.

    Each file is drawn anew from seed 1, so that one does not change with the other.
    """
    draw = random.Random(1)
    lines = [line.strip() for line in read_sentences(books_in(text))]
    lines = [line for line in lines if 3 <= len(line.split()) <= 20 and len(line) <= 120]
    mixed = draw.sample(lines, min(BOOK_LINES, len(lines))) + digits(draw, DIGIT_LINES)
    only_digits = digits(random.Random(1), ONLY_DIGIT_LINES)
    for name, content in ((LINES_FILE, mixed), (DIGITS_FILE, only_digits)):
        atomic_write_text(folder / name, "".join(f"{line}\n" for line in content))


def with_text_files(plan: Grid, folder: Path) -> Grid:
    """The plan with the full paths of the files that `write_lines_to_speak` wrote to `folder`."""
    written = (LINES_FILE, DIGITS_FILE)

    def with_paths(run: GridRun) -> GridRun:
        text = settings_of(plan, run.name).data.spoken.text
        if not set(written).intersection(text):
            return run
        paths = [str(folder / name) if name in written else name for name in text]
        return replace(run, set=[*run.set, f"data.spoken.text=[{','.join(paths)}]"])

    return replace(plan, runs=[with_paths(run) for run in plan.runs])


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


def tuned_options(record: Path) -> dict[str, Any]:
    """The decoder options with which the shipped network was measured."""
    network = json.loads(record.read_text())["details"]["networks"][SHIPPED]
    return {key: network[key] for key in ("beam", "lm_weight", "word_bonus", "unknown_score")}


def calibrate(plan: Grid, data: DataSettings, lm: Path, record: Path) -> Path:
    """Fit the confidences of the packed sparse network to its decoder; the new model file."""
    options = DecoderOptions("beam", lm=str(lm), **tuned_options(record))
    folder = folder_of(plan, NETWORKS[SHIPPED])
    dev = folder / "dev.jsonl"
    entries = [under(data, name) for name in data.dev]
    write_manifest(
        dev, [u for entry in entries for u in sources.resolve(entry, data.root, data.spoken)]
    )
    output = folder / "calibrated.asr"
    print(calibrate_to(folder / "packed.asr", str(dev), output, options))
    return output


def build(plan: Grid, settings: Run, text: Path, test: list[str], by_age: list[str]) -> None:
    """Steps 1 to 5."""
    data = settings.data
    lm = folder_of(plan, NETWORKS[SHIPPED]).with_name("english.lm")
    language_model(text, lm, data)
    write_lines_to_speak(text, lm.parent)
    train(with_text_files(plan, lm.parent), RECIPES / "results" / "shipped")
    words = [str(RECIPES / "benchmarks" / "recogniser.py"), data.root, "-o", str(RECORD)]
    for label, name in NETWORKS.items():
        words.append(f"--network={label}={folder_of(plan, name) / 'packed.asr'}")
    words += [f"--lm={lm}", f"--beam={BEAM}", f"--unknown-score={UNKNOWN_SCORE:g}"]
    words += ["--pocketsphinx", "--dev", *data.dev, "--test", *test, "--by-age", *by_age]
    run(words)
    model = calibrate(plan, data, lm, RECORD)
    words = [str(HERE / "package.py"), str(model), str(lm), f"--record={RECORD}"]
    words += [f"--network={SHIPPED}"]
    words += [f"--{key.replace('_', '-')}={value}" for key, value in tuned_options(RECORD).items()]
    run(words)
    report(RECORD.parent, RECORD.parent, RECIPES / "RESULTS.md")


def compare_seeds(plan: Grid) -> None:
    """Train every network with three seeds; write the table and the section of RESULTS.md."""
    results = RECIPES / "results" / "shipped_seeds"
    train(plan, results)
    report(results, results, RECIPES / "RESULTS.md", title="Three seeds on real recordings")
    print_table(read_records(results), Console())


def main(words: list[str]) -> None:
    about = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=about)
    parser.add_argument("speech", type=Path)
    parser.add_argument("--text", type=Path, help="folder of books")
    parser.add_argument("--noise", type=Path, help="folder of noise recordings")
    parser.add_argument("--test", nargs="+", metavar="SET", help=f"default: {' '.join(TEST)}")
    parser.add_argument("--by-age", nargs="*", metavar="SET", help="test sets split by age")
    parser.add_argument("--seeds", action="store_true", help="the three-seed comparison instead")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    arguments = parser.parse_intermixed_args(words)
    if not arguments.seeds and arguments.text is None:
        raise AsrError("--text FOLDER is missing: the books for the language model")
    not_for_seeds = (arguments.noise, arguments.text, arguments.test, arguments.by_age)
    if arguments.seeds and any(value is not None for value in not_for_seeds):
        raise AsrError("--noise, --text, --test and --by-age are not for --seeds")
    given = [f"data.root={os.path.abspath(arguments.speech)}"]
    if arguments.noise:
        given.append(f"augment.noise_folder={os.path.abspath(arguments.noise)}")
    given += arguments.overrides
    grid = HERE / ("seeds.yaml" if arguments.seeds else "grid.yaml")
    plan = read_grid(grid, given)
    settings = settings_of(plan, NETWORKS[SHIPPED])
    if not Path(settings.data.root).is_dir():
        raise AsrError(
            f"{settings.data.root}: not a folder; SPEECH is the folder of the recordings"
        )
    if arguments.seeds:
        compare_seeds(plan)
        return
    test = arguments.test or list(TEST)
    by_age = split_sets(test, arguments.by_age)
    check_inputs(arguments.text, test, by_age, settings)
    build(plan, settings, arguments.text, test, by_age)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except AsrError as error:
        sys.exit(f"build: {error}")
