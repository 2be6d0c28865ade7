"""The recogniser that ships with the package, from recordings and books to the files in the wheel.

    python recipes/shipped.py SPEECH --text BOOKS [--noise FOLDER] [key=value of every run ...]
    python recipes/shipped.py SPEECH --seeds [key=value ...]

SPEECH has the subsets that `shipped_stage.yaml` names, each in LibriSpeech's layout; BOOKS has
`books-*.txt.xz`, one sentence a line, or `.txt`; the noise folder is mixed into the training, and a
table `noise.tsv` above it names the authors for the card. Each step is skipped where it is done:

1. trains the grid of `shipped.yaml`: in two stages a dense network, its pruned twin, and a small
   dense one of as many non-zeros; the pruned one goes on in a third (two trainings at a time with
   one thread: about three hours of processor time);
2. a language model of books and training transcripts, at most 5 MB;
3. measures them and PocketSphinx on the test sets: `results/recogniser/english.json`;
4. fits the confidences of the sparse network on the dev sets, with the language model;
5. writes `asr/models/english.*` and the section of RESULTS.md.

With another list of test sets or a wider network only `shipped_stage.yaml` changes. `--seeds`
trains and tests the grid of `shipped_seeds.yaml` instead.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from asr.calibrate import calibrate_to
from asr.corpus import sources
from asr.corpus.manifest import Utterance, write_manifest
from asr.decode import DecoderOptions
from asr.errors import AsrError
from asr.files import atomic_write_text
from asr.grid import Plan, folder_of, read_grid, run_grid
from asr.report import print_table, read_records, report
from asr.settings import Data

HERE = Path(__file__).parent
RECORD = HERE / "results" / "recogniser" / "english.json"
UNTOLD = "train-coffee"
"""345 orders of 55 words, whose phrases would crowd the language model."""
NETWORKS = {
    "dense twin": "twin",
    "sparse": "sparse",
    "small dense": "small",
    "sparse, third stage": "sparse-stage3",
}
"""Labels in tables, and runs of the grid."""
SHIPPED, TWIN = "sparse, third stage", "dense twin"
DEV = ["dev-libri", "dev-so762"]
LM = ["--compact", "--order", "4", "--cutoffs", "1,1,2,2", "--min-count", "3", "--prune", "8.2e-8"]
BEAM = 256
UNKNOWN_SCORE = -16.0
"""Of words outside the vocabulary. Both were chosen on dev with the first stage; see LOG.md."""


def run(words: list[str]) -> None:
    """A command of ours; AsrError if it fails, which it has explained."""
    print("+", " ".join(words), flush=True)
    if subprocess.run([sys.executable, *words]).returncode:
        raise AsrError(f"this failed: {' '.join(words)}")


def trained(plan: Plan, results: Path) -> None:
    """Train what is not trained yet."""
    if failed := run_grid(plan, results, Console()):
        raise AsrError(f"failed: {', '.join(failed)}")


def language_model(speech: Path, text: Path, output: Path, train: list[str]) -> None:
    """Books and training transcripts to a compact file."""
    if output.exists():
        return
    books = sorted(map(str, [*text.glob("books-*.txt.xz"), *text.glob("books-*.txt")]))
    if not books:
        raise AsrError(f"{text}: there is no books-*.txt.xz or books-*.txt in it")
    said: list[Utterance] = []
    for name in train:
        if name != UNTOLD:
            said += sources.resolve(str(speech / name), Data())
    transcripts = output.with_name("transcripts.txt")
    atomic_write_text(transcripts, "".join(f"{u.text}\n" for u in said))
    run(["-m", "asr", "lm", "train", *books, str(transcripts), "-o", str(output), *LM])


def tuned(record: Path) -> dict[str, Any]:
    """The decoder options that the network which ships was measured with."""
    found = json.loads(record.read_text())["details"]["networks"][SHIPPED]
    return {key: found[key] for key in ("beam", "lm_weight", "word_bonus", "unknown_score")}


def calibrated(plan: Plan, speech: Path, lm: Path, record: Path) -> Path:
    """The packed sparse network with confidences that fit its decoder."""
    options = DecoderOptions("beam", lm=str(lm), **tuned(record))
    folder = folder_of(plan, NETWORKS[SHIPPED])
    dev = folder / "dev.jsonl"
    utterances = [u for name in DEV for u in sources.resolve(str(speech / name), Data())]
    write_manifest(dev, utterances)
    output = folder / "calibrated.asr"
    print(calibrate_to(folder / "packed.asr", str(dev), output, options))
    return output


def ship(speech: Path, text: Path, noise: Path | None, plan: Plan, train: list[str]) -> None:
    """Steps 1 to 5."""
    trained(plan, HERE / "results" / "shipped")
    lm = folder_of(plan, "sparse").with_name("english.lm")
    language_model(speech, text, lm, train)
    networks = [
        f"--network={label}={folder_of(plan, name) / 'packed.asr'}"
        for label, name in NETWORKS.items()
    ]
    words = [str(HERE / "benchmarks" / "recogniser.py"), str(speech), "-o", str(RECORD), *networks]
    words += [f"--lm={lm}", f"--beam={BEAM}", f"--unknown-score={UNKNOWN_SCORE:g}"]
    run([*words, "--pocketsphinx", "--dev", *DEV])
    model = calibrated(plan, speech, lm, RECORD)
    words = [str(HERE / "ship.py"), str(model), str(lm), f"--record={RECORD}"]
    words += [f"--network={SHIPPED}", f"--twin={TWIN}"]
    words += [f"--{key.replace('_', '-')}={value:g}" for key, value in tuned(RECORD).items()]
    if noise:
        words += [f"--noise={noise}"]
    run(words)
    report(RECORD.parent, RECORD.parent, HERE / "RESULTS.md")


def seeds(plan: Plan) -> None:
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
    parser.add_argument("--seeds", action="store_true", help="the three-seed comparison instead")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    arguments = parser.parse_intermixed_args(words)
    if not arguments.seeds and arguments.text is None:
        raise AsrError("--text FOLDER: the books of the language model")
    if arguments.seeds and (arguments.noise or arguments.text):
        raise AsrError("--noise and --text are not for --seeds")
    given = [f"data.root={os.path.abspath(arguments.speech)}"]
    if arguments.noise:
        given.append(f"augment.noise_folder={os.path.abspath(arguments.noise)}")
    given += arguments.overrides
    grid = HERE / ("shipped_seeds.yaml" if arguments.seeds else "shipped.yaml")
    plan = read_grid(grid, given)
    if arguments.seeds:
        seeds(plan)
        return
    from asr.configure import load
    from asr.settings import Run

    train = load(Run, plan.base, given).data.train
    ship(arguments.speech, arguments.text, arguments.noise, plan, train)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except AsrError as error:
        sys.exit(f"shipped: {error}")
