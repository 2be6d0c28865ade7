"""Word errors, time, memory and bytes of whole recognisers, PocketSphinx among them.

    python recipes/benchmarks/recogniser.py DATA -o recipes/results/recogniser/NAME.json \\
        --network 'dense=dense.asr' --network 'sparse=sparse.asr' --lm books.lm --pocketsphinx

DATA is a folder in LibriSpeech's layout with the subsets of `--dev` and `--test`, and with
`utterances.tsv` (columns subset, utterance, age) for the sets of `--by-age`: these are displayed
whole and split into adults and children (under 13). Every network decodes each test set once
greedily and, with `--lm`, once by beam search. Its weight, word bonus and prior weight are given,
or tuned for each network to the lowest WER on all dev sets together. PocketSphinx 5.1.1 (extra
`bench`) runs with its defaults and the model in its wheel.

Each recogniser, decoder and set has its own process with one thread, which transcribes one file
after another. A network of which less than half is zeros runs in the backend, torch or native, that
took less time for some dev recordings; other networks run in the native one. The result of each
process is cached below ASR_RUNS (or in `--work`): run the same command to continue. If a network is
added later, only that one is run. Results of other runs or other code are marked in the record.
`--again` measures everything once more.

The record (`asr report recipes/results/recogniser -o OUT --results recipes/RESULTS.md`):

    rows         one for each recogniser and decoder:
      network      label as given, or `PocketSphinx`
      decoder      `greedy` or `beam with LM`; `its own` for PocketSphinx
      wer SET      {wer, low, high, words, utterances, ...}, fractions with their 95 % interval
      cer SET      {value, low, high}, fractions; SET is a test set, or `SET adults`, `SET children`
      nonzeros, parameters       of the network; null for PocketSphinx
      bytes        of all model files together; model_bytes (with a dictionary), lm_bytes (0: none)
      rtf          processor seconds / audio seconds over all sets; wall_rtf by the clock
      load_seconds from the start of a process: Python, imports, opening files; not part of
                   rtf; the median over sets
      peak_bytes   largest resident memory of any of its processes
      backend      what ran it
    tables       how rows are displayed, and the `Differences`, whose rows are:
      network, decoder, baseline (label of another network, or `PocketSphinx`)
      change SET   {wer, low, high, p, relative}: WER of the network - WER of the baseline, by a
                   paired bootstrap; relative is that difference / WER of the baseline
      time_ratio   rtf of the network / rtf of the baseline
      same_run     whether both were timed in one run on one machine
    details      limit (utterances of each set; null: all of them), sets, networks (file, backends
                 tried, tuning), lm, pocketsphinx, parts (each process: set, day, seconds, ...)
"""

import argparse
import os
import sys
from pathlib import Path

from lib import recogniser_record as report
from lib.cache import Cache, CachedResult
from lib.contestants import Bench, spread
from lib.rates import BEAM
from lib.subsets import DEV, TEST, split_sets, subsets

from asr.errors import AsrError
from asr.report.measurements import table_of, write_measurement
from asr.train.record import command


def measure(arguments: argparse.Namespace) -> None:
    """Compute whatever is not in the cache, and write the record."""
    limit, name = arguments.limit, arguments.output.stem
    root = Path(os.environ.get("ASR_RUNS") or "runs") / "recogniser"
    folder = arguments.work or root / (f"{name}-limit-{limit}" if limit else name)
    cache = Cache(folder, arguments.again)
    given = (arguments.values, arguments.tuned)
    searched = (arguments.lm, arguments.beam, arguments.unknown_score)
    bench = Bench(arguments.data, arguments.dev, cache, *searched, *given)
    sets = {name: spread(bench.resolve(name), limit) for name in arguments.test}
    columns = subsets(arguments.data, sets, arguments.by_age)
    contestants = [c for label, path in arguments.network for c in bench.network(label, path)]
    if arguments.pocketsphinx:
        contestants.append(bench.pocketsphinx())
    results_of: list[dict[str, CachedResult]] = [{} for _ in contestants]
    for name, utterances in sets.items():
        for contestant, parts in zip(contestants, results_of, strict=True):
            parts[name] = bench.transcribe(contestant, name, utterances)
    results = [
        report.Result(c.network, c.decoder, c.facts, c.pruned, parts)
        for c, parts in zip(contestants, results_of, strict=True)
    ]
    rows = [report.row(result, columns, sets) for result in results]
    changes = report.differences(results, columns, sets)
    notes = [*report.notes(results, columns, sets, limit, cache), *bench.notes]
    for line in notes:
        print(line)
    print(table_of(report.columns(columns, limit), rows).text())
    for table in report.tables(columns, limit, changes):
        print(f"\n{table.heading}\n{table_of(table.columns, table.rows or rows).text()}")
    write_measurement(
        arguments.output,
        "recogniser",
        f"{arguments.output.stem}{f', only {limit} utterances a set' if limit else ''}",
        command(),
        report.columns(columns, limit),
        rows,
        notes,
        {
            "limit": limit,
            "sets": {subset.name: len(subset.chosen) for subset in columns},
            **bench.details,
            "parts": [part for result in results for part in report.part_details(result)],
        },
        tables=report.tables(columns, limit, changes),
    )


def pair(word: str) -> tuple[str, str]:
    """Split `LABEL=VALUE` at the first `=`; a path may contain more of them."""
    label, sign, value = word.partition("=")
    if not (label and sign and value):
        raise AsrError(f"{word}: must be LABEL=FILE, or LABEL=WEIGHT,BONUS,PRIOR_WEIGHT")
    return label, value


def numbers(word: str) -> tuple[float, float, float]:
    """The numbers of `WEIGHT,BONUS,PRIOR_WEIGHT`."""
    try:
        weight, bonus, prior = map(float, word.split(","))
    except ValueError:
        raise AsrError(
            f"{word}: must be a weight, a word bonus and a prior weight with commas between them, "
            "as in 0.6,1,0.4"
        ) from None
    return weight, bonus, prior


def checked(arguments: argparse.Namespace) -> argparse.Namespace:
    """The arguments with their types. Raises AsrError for those that contradict each other."""
    arguments.network = [(label, Path(file)) for label, file in map(pair, arguments.network)]
    arguments.tuned = {label: numbers(v) for label, v in map(pair, arguments.tuned)}
    labels = [label for label, _ in arguments.network]
    if not labels and not arguments.pocketsphinx:
        raise AsrError("nothing to measure: give --network LABEL=FILE, --pocketsphinx or both")
    if len({report.POCKETSPHINX, *labels}) <= len(labels):
        raise AsrError(f"--network: use every label once, and not {report.POCKETSPHINX}: {labels}")
    if unknown := sorted(set(arguments.tuned) - set(labels)):
        raise AsrError(f"--tuned: no --network has the label {', '.join(unknown)}")
    given = (arguments.lm_weight, arguments.word_bonus)
    if (given[0] is None) != (given[1] is None):
        raise AsrError(
            "--lm-weight and --word-bonus: give both, or neither to tune them on the dev sets"
        )
    if arguments.prior_weight and given[0] is None:
        raise AsrError("--prior-weight: needs --lm-weight and --word-bonus")
    arguments.values = None if given[0] is None else (*given, arguments.prior_weight)
    searched = (arguments.beam, arguments.unknown_score) != (BEAM, 0.0)
    if not arguments.lm and (arguments.tuned or arguments.values or searched):
        raise AsrError("--beam, --unknown-score, --lm-weight, --word-bonus, --tuned: need --lm")
    arguments.by_age = split_sets(arguments.test, arguments.by_age)
    if arguments.limit is not None and arguments.limit < 1:
        raise AsrError(f"--limit={arguments.limit}: at least 1")
    return arguments


def main(words: list[str]) -> int:
    about = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=about)
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True, help="the record, .json")
    parser.add_argument("--network", action="append", default=[], metavar="LABEL=FILE")
    parser.add_argument("--pocketsphinx", action="store_true", help="measure PocketSphinx too")
    parser.add_argument("--lm", type=Path, help="language model; decode by beam search too")
    parser.add_argument("--beam", type=int, default=BEAM)
    parser.add_argument(
        "--unknown-score",
        type=float,
        default=0.0,
        help="score of words outside the vocabulary of --lm",
    )
    parser.add_argument("--lm-weight", type=float, help="for every network (default: tuned on dev)")
    parser.add_argument(
        "--word-bonus", type=float, help="for every network (default: tuned on dev)"
    )
    parser.add_argument("--prior-weight", type=float, default=0.0, help="with these two")
    parser.add_argument(
        "--tuned", action="append", default=[], metavar="LABEL=WEIGHT,BONUS,PRIOR_WEIGHT"
    )
    parser.add_argument("--dev", nargs="+", default=DEV)
    parser.add_argument("--test", nargs="+", default=TEST)
    parser.add_argument("--by-age", nargs="*", metavar="SET", help="which of --test to split")
    parser.add_argument("--limit", type=int, help="utterances of each test set, for a trial run")
    parser.add_argument("--work", type=Path, help="folder of the cache")
    parser.add_argument("--again", action="store_true", help="use no result of an earlier run")
    measure(checked(parser.parse_args(words)))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except AsrError as error:
        sys.exit(f"recogniser: {error}")
