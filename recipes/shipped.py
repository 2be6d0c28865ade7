"""The recogniser that ships with the package, from recordings and books to the files in the wheel.

    python recipes/shipped.py SPEECH [key=value of every run ...] --text BOOKS [--noise FOLDER] \\
        [--test SET ...] [--by-age SET ...]
    python recipes/shipped.py SPEECH --seeds [key=value ...]

SPEECH has the training and dev sets that `shipped_stage.yaml` names and the test sets of `--test`,
each in LibriSpeech's layout, and ages in `utterances.tsv` for those of `--by-age`; BOOKS has
`books-*.txt.xz`, one sentence a line, or `.txt`; the noise folder is mixed into the training; name
its authors in `card.md`. All of this, and that
PocketSphinx and the synthesiser are installed, is looked at first. Each step is skipped where it
is done:

1. a language model of books and training transcripts, at most 5 MB, and the lines of the books and
   the strings of digits that synthesisers say in the last five stages;
2. trains the grid of `shipped.yaml`: in eight stages a dense network, its pruned twin, and a small
   dense one of as many non-zeros (two trainings at a time with one thread: about nine hours
   of processor time);
3. measures them and PocketSphinx on the test sets: `results/recogniser/english.json`;
4. fits the confidences of the sparse network on the dev sets, with the language model;
5. writes `asr/pretrained/english.*` and the section of RESULTS.md.

Other recordings, or a wider network: change `shipped_stage.yaml`, or give key=value; other test
sets: `--test` and `--by-age`. What the card says of the data is in `card.md`. `--seeds` trains and
tests the grid of `shipped_seeds.yaml` instead.
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
sys.path.append(str(HERE / "benchmarks"))
from lib.card import LM_BYTES, read_card  # noqa: E402
from lib.recognisers import pocketsphinx_version  # noqa: E402
from lib.subsets import TEST, split_sets, subsets  # noqa: E402

RECORD = HERE / "results" / "recogniser" / "english.json"
UNTOLD = "train-coffee"
"""345 orders of 55 words, whose phrases would crowd the language model."""
NETWORKS = {
    "dense twin": "twin",
    "sparse": "sparse",
    "small dense": "small",
    "dense, third stage": "stage3",
}
"""Labels in tables, and runs of the grid."""
SHIPPED = "sparse"
SPOKEN = "spoken:"
"""Begins the entries of synthetic speech."""
DIGITS = ("ZERO", "ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX", "SEVEN", "EIGHT", "NINE")
SAID_LINES, SAID_DIGITS = 12_000, 1_200
"""What there is to say in SAID; six hours take about four in ten of it."""
DIGITS_ALONE = 1_500
"""Strings of digits in SAID_LATER; six tenths of an hour take two thirds of them."""
SAID, SAID_LATER = "said.txt", "digits.txt"
"""Files of what is said, as `shipped.yaml` names them."""
LM = ["--order", "4", "--cutoffs", "1,1,2,2", "--min-count", "3", "--prune", "8.2e-8"]
BEAM = 256
UNKNOWN_SCORE = -16.0
"""Of words outside the vocabulary. Both were chosen on dev with the first stage; see LOG.md."""


def run(words: list[str]) -> None:
    """A command of ours; AsrError if it fails, which it has explained."""
    print("+", " ".join(words), flush=True)
    if subprocess.run([sys.executable, *words]).returncode:
        raise AsrError(f"this failed: {' '.join(words)}")


def trained(plan: Grid, results: Path) -> None:
    """Train what is not trained yet."""
    if failed := run_grid(plan, results, Console()):
        raise AsrError(f"failed: {', '.join(failed)}")


def language_model(text: Path, output: Path, data: DataSettings) -> None:
    """Train on books and training transcripts; the file must be small enough to ship."""
    if not output.exists():
        books = books_in(text)
        said: list[Utterance] = []
        for entry in data.train:
            if Path(entry).name != UNTOLD and not entry.startswith(SPOKEN):
                said += sources.resolve(entry, data.root, data.spoken)
        output.parent.mkdir(parents=True, exist_ok=True)
        transcripts = output.with_name("transcripts.txt")
        atomic_write_text(transcripts, "".join(f"{u.text}\n" for u in said))
        run(["-m", "asr", "lm", "train", *books, str(transcripts), "-o", str(output), *LM])
    if (size := output.stat().st_size) > LM_BYTES:
        raise AsrError(
            f"{output}: {size:,} bytes, more than the {LM_BYTES:,} that ship; remove it and raise "
            "--prune in LM of recipes/shipped.py"
        )


def digits(draw: random.Random, count: int) -> list[str]:
    """Strings of three to seven digits."""
    return [" ".join(draw.choice(DIGITS) for _ in range(draw.randint(3, 7))) for _ in range(count)]


def lines_to_say(text: Path, folder: Path) -> None:
    """What synthesisers say: short lines of the books with strings of digits, and digits alone.

    Each file is drawn anew from seed 1, so that one does not change with the other.
    """
    draw = random.Random(1)
    lines = [line.strip() for line in read_sentences(books_in(text))]
    lines = [line for line in lines if 3 <= len(line.split()) <= 20 and len(line) <= 120]
    said = draw.sample(lines, min(SAID_LINES, len(lines))) + digits(draw, SAID_DIGITS)
    for name, content in ((SAID, said), (SAID_LATER, digits(random.Random(1), DIGITS_ALONE))):
        atomic_write_text(folder / name, "".join(f"{line}\n" for line in content))


def speaking(plan: Grid, folder: Path) -> Grid:
    """The plan whose runs find what `lines_to_say` wrote into that folder."""

    def told(run: GridRun) -> GridRun:
        text = settings_of(plan, run.name).data.spoken.text
        if not {SAID, SAID_LATER}.intersection(text):
            return run
        found = [str(folder / name) if name in (SAID, SAID_LATER) else name for name in text]
        return replace(run, set=[*run.set, f"data.spoken.text=[{','.join(found)}]"])

    return replace(plan, runs=[told(run) for run in plan.runs])


def books_in(text: Path) -> list[str]:
    """The files of books in a folder. Raises AsrError if there is none."""
    books = sorted(map(str, [*text.glob("books-*.txt.xz"), *text.glob("books-*.txt")]))
    if not books:
        raise AsrError(f"{text}: there is no books-*.txt.xz or books-*.txt in it")
    return books


def check(text: Path, test: Sequence[str], by_age: Sequence[str], settings: Run) -> None:
    """Raises AsrError for whatever would stop a step after the trainings, which take hours."""
    pocketsphinx_version()
    books_in(text)
    data = settings.data
    for entry in data.train:
        if entry.startswith(SPOKEN):
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
    """A dev or test set as the benchmark finds it: below the folder of the recordings."""
    return str(Path(data.root) / name)


def tuned(record: Path) -> dict[str, Any]:
    """The decoder options that the network which ships was measured with."""
    found = json.loads(record.read_text())["details"]["networks"][SHIPPED]
    return {key: found[key] for key in ("beam", "lm_weight", "word_bonus", "unknown_score")}


def calibrated(plan: Grid, data: DataSettings, lm: Path, record: Path) -> Path:
    """The packed sparse network with confidences that fit its decoder."""
    options = DecoderOptions("beam", lm=str(lm), **tuned(record))
    folder = folder_of(plan, NETWORKS[SHIPPED])
    dev = folder / "dev.jsonl"
    entries = [under(data, name) for name in data.dev]
    found = [u for entry in entries for u in sources.resolve(entry, data.root, data.spoken)]
    write_manifest(dev, found)
    output = folder / "calibrated.asr"
    print(calibrate_to(folder / "packed.asr", str(dev), output, options))
    return output


def ship(plan: Grid, settings: Run, text: Path, test: list[str], by_age: list[str]) -> None:
    """Steps 1 to 5."""
    data = settings.data
    lm = folder_of(plan, NETWORKS[SHIPPED]).with_name("english.lm")
    language_model(text, lm, data)
    lines_to_say(text, lm.parent)
    trained(speaking(plan, lm.parent), HERE / "results" / "shipped")
    words = [str(HERE / "benchmarks" / "recogniser.py"), data.root, "-o", str(RECORD)]
    for label, name in NETWORKS.items():
        words.append(f"--network={label}={folder_of(plan, name) / 'packed.asr'}")
    words += [f"--lm={lm}", f"--beam={BEAM}", f"--unknown-score={UNKNOWN_SCORE:g}"]
    words += ["--pocketsphinx", "--dev", *data.dev, "--test", *test, "--by-age", *by_age]
    run(words)
    model = calibrated(plan, data, lm, RECORD)
    words = [str(HERE / "ship.py"), str(model), str(lm), f"--record={RECORD}"]
    words += [f"--network={SHIPPED}"]
    words += [f"--{key.replace('_', '-')}={value}" for key, value in tuned(RECORD).items()]
    run(words)
    report(RECORD.parent, RECORD.parent, HERE / "RESULTS.md")


def seeds(plan: Grid) -> None:
    """The three-seed comparison, its table and its section."""
    results = HERE / "results" / "shipped_seeds"
    trained(plan, results)
    report(results, results, HERE / "RESULTS.md", title="Three seeds on real recordings")
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
        raise AsrError("--text FOLDER: the books of the language model")
    others = (arguments.noise, arguments.text, arguments.test, arguments.by_age)
    if arguments.seeds and any(value is not None for value in others):
        raise AsrError("--noise, --text, --test and --by-age are not for --seeds")
    given = [f"data.root={os.path.abspath(arguments.speech)}"]
    if arguments.noise:
        given.append(f"augment.noise_folder={os.path.abspath(arguments.noise)}")
    given += arguments.overrides
    grid = HERE / ("shipped_seeds.yaml" if arguments.seeds else "shipped.yaml")
    plan = read_grid(grid, given)
    settings = settings_of(plan, NETWORKS[SHIPPED])
    if not Path(settings.data.root).is_dir():
        raise AsrError(f"{settings.data.root}: no folder; the first word is that of the recordings")
    if arguments.seeds:
        seeds(plan)
        return
    test = arguments.test or list(TEST)
    by_age = split_sets(test, arguments.by_age)
    check(arguments.text, test, by_age, settings)
    ship(plan, settings, arguments.text, test, by_age)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except AsrError as error:
        sys.exit(f"shipped: {error}")
