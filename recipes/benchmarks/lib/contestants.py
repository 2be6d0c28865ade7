"""The recognisers that a benchmark compares: their backends, decoders and language model weights.

The backend of a dense network and the weights of the search are chosen on the dev sets. These
choices go to the cache, and to `notes` and `details` of the record.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from asr.corpus import sources
from asr.corpus.manifest import Utterance
from asr.decode import DecoderOptions
from asr.decode.lm.open import open_lm
from asr.decode.lm.tune import Trial
from asr.errors import AsrError
from asr.model.backend import BackendName
from asr.model.info import WORTH_PACKING
from lib.cache import Cache, CachedResult
from lib.rates import (
    BEAM,
    BONUSES,
    PRIOR_WEIGHTS,
    WEIGHTS,
    lm_details,
    log_probs_of,
    model_details,
    tune_on,
    tuning_note,
)
from lib.recogniser_record import OWN, POCKETSPHINX
from lib.recognisers import (
    Job,
    pocketsphinx_bytes,
    pocketsphinx_version,
    run,
    whole_recordings,
)

TRIED, REPEATS = 5, 3
"""Recordings of each dev set with which the backend of a dense network is chosen, and repeats."""


@dataclass(frozen=True)
class Contestant:
    """A recogniser with one decoder, before it is run."""

    network: str
    decoder: str
    job: Job
    """Without recordings."""
    depends_on: dict[str, Any]
    """All that its texts depend on, besides the recordings."""
    facts: dict[str, Any]
    """Non-zeros, bytes and the like, for its row in the record."""
    pruned: bool | None


def spread(utterances: Sequence[Utterance], limit: int | None) -> list[Utterance]:
    """All of them, or `limit` of them at equal distances."""
    if limit is None or limit >= len(utterances):
        return list(utterances)
    return [utterances[i] for i in np.linspace(0, len(utterances) - 1, limit).round().astype(int)]


def digest(path: str | Path) -> str:
    """SHA-256 of a file."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise AsrError(f"{path}: cannot be read ({error.strerror})") from None


def digest_of(utterances: Sequence[Utterance]) -> str:
    """SHA-256 of the speakers, durations and texts of a set."""
    lines = (f"{u.id}\t{u.speaker}\t{u.duration:.4f}\t{u.text}\n" for u in utterances)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


@dataclass
class Bench:
    """The recordings and settings of a benchmark, and the notes and details for its record."""

    data: Path
    """Folder of the sets."""
    dev: Sequence[str]
    """Sets on which backend and weights are chosen."""
    cache: Cache
    lm: Path | None = None
    beam: int = BEAM
    unknown_score: float = 0.0
    """Of words outside the vocabulary of the language model."""
    values: tuple[float, float, float] | None = None
    """Weight, bonus and prior weight for every network; None: the best on the dev sets."""
    tuned: dict[str, tuple[float, float, float]] = field(default_factory=dict)
    """The same for networks by label; they override `values`."""
    notes: list[str] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=lambda: {"networks": {}})

    def __post_init__(self) -> None:
        if self.lm:
            opened = open_lm(str(self.lm))
            self.details["lm"] = {"sha256": digest(self.lm), **lm_details(str(self.lm), opened)}

    def resolve(self, name: str) -> list[Utterance]:
        """A set of the data."""
        return sources.resolve(str(self.data / name))

    def network(self, label: str, path: Path) -> Iterator[Contestant]:
        """A network with greedy decoding and, if there is a language model, with beam search."""
        details = {"file": path.name, "sha256": digest(path), **model_details(path)}
        self.details["networks"][label] = details
        sparsity = 1 - details["nonzeros"] / details["parameters"]
        details["sparsity"], pruned = sparsity, sparsity >= WORTH_PACKING
        backend: BackendName = "native" if pruned else self.backend(label, path)
        facts = {
            "nonzeros": details["nonzeros"],
            "parameters": details["parameters"],
            "model_bytes": details["bytes"],
            "lm_bytes": 0,
            "bytes": details["bytes"],
        }
        depends_on = {"network": details["sha256"], "backend": backend, "decoding": "greedy"}
        job = Job((), str(path), backend)
        yield Contestant(label, "greedy", job, depends_on, facts, pruned)
        if not self.lm:
            return
        weight, bonus, prior = self.weights(label, path)
        values = {"lm_weight": weight, "word_bonus": bonus, "prior_weight": prior}
        tuned = {"beam": self.beam, **values, "unknown_score": self.unknown_score}
        details |= tuned
        lm = self.details["lm"]
        job = replace(job, decoding=replace(self.decoding, **values))
        depends_on = {**depends_on, "decoding": {**tuned, "lm": lm["sha256"]}}
        facts = {**facts, "lm_bytes": lm["bytes"], "bytes": details["bytes"] + lm["bytes"]}
        yield Contestant(label, "beam with LM", job, depends_on, facts, pruned)

    def backend(self, label: str, path: Path) -> BackendName:
        """The backend that needs less processor time for a dense network on dev recordings."""
        utterances = [u for n in self.dev for u in spread(self.resolve(n), TRIED)]
        job = Job(whole_recordings(utterances), str(path), repeats=REPEATS)
        names: list[BackendName] = ["torch", "native"]
        if not all(find_spec(package) for package in ("torch", "torchaudio")):
            names.remove("torch")
        seconds, earlier = {}, dict[str, None]()
        for name in names:
            one = replace(job, backend=name)
            depends_on = {
                "network": digest(path),
                "backend": name,
                "set": digest_of(utterances),
            }
            cached = self.cache.get(f"{label}, {name} on dev", depends_on, partial(_run, one))
            seconds[name] = sum(cached.result["cpu_seconds"]) / sum(u.duration for u in utterances)
            earlier |= {} if self.cache.from_this_run(cached) else {cached.provenance(): None}
        best = min(names, key=lambda name: seconds[name])
        self.details["networks"][label]["backends"] = seconds
        tried = ", ".join(f"{name} {seconds[name]:.4f}" for name in names)
        self.notes.append(
            f"{label} is dense and runs in the {best} backend; real-time factor of greedy decoding "
            f"on {len(utterances)} dev recordings, median of {REPEATS}: {tried}."
            + "".join(f" Measured in {run}." for run in earlier)
        )
        return best

    @property
    def decoding(self) -> DecoderOptions:
        """Beam search with the language model; the weights are not tuned yet."""
        return DecoderOptions("beam", self.beam, lm=str(self.lm), unknown_score=self.unknown_score)

    def weights(self, label: str, path: Path) -> tuple[float, float, float]:
        """Weight, bonus and prior weight of a network: as given, else the best on the dev sets."""
        given = self.tuned.get(label, self.values)
        if given:
            weight, bonus, prior = (f"{value:g}" for value in given)
            self.notes.append(
                f"{label}: weight {weight}, word bonus {bonus} and prior weight {prior}, given."
            )
            return given
        names, lm = self.dev, self.details["lm"]["sha256"]
        sets = {name: digest_of(self.resolve(name)) for name in names}

        def search() -> dict[str, Any]:
            found, tokenizer = log_probs_of(path, [self.data / name for name in names])
            trials = tune_on(found, tokenizer, self.decoding)
            return {
                "trials": [[t.lm_weight, t.word_bonus, t.wer, t.prior_weight] for t in trials],
                "utterances": len(found.rows),
            }

        depends_on = {"network": digest(path), "lm": lm, "beam": self.beam, "sets": sets}
        depends_on["unknown_score"] = self.unknown_score
        depends_on["grid"] = WEIGHTS, BONUSES, PRIOR_WEIGHTS
        cached = self.cache.get(f"{label}, tuning", depends_on, search)
        found = cached.result
        self.details["networks"][label]["tuning"] = found["trials"]
        trials = [Trial(*values) for values in found["trials"]]
        earlier = "" if self.cache.from_this_run(cached) else f" Tuned in {cached.provenance()}."
        note = tuning_note(trials, names, found["utterances"], self.beam)
        self.notes.append(f"{label}: {note}{earlier}")
        print(self.notes[-1], flush=True)
        return trials[0].lm_weight, trials[0].word_bonus, trials[0].prior_weight

    def pocketsphinx(self) -> Contestant:
        """PocketSphinx with the defaults and the model of its wheel."""
        version, sizes = pocketsphinx_version(), pocketsphinx_bytes()
        self.details["pocketsphinx"] = {"version": version, "bytes": sizes}
        self.notes.append(
            f"PocketSphinx {version} with its default settings and the US English model of its "
            "wheel; one decoder per set, which starts each recording with the cepstral mean of "
            "those before. Its model folder is counted "
            f"({(sizes['model'] + sizes['lm']) / 1e6:.1f} MB); "
            f"with its code the wheel installs {sizes['installed'] / 1e6:.1f} MB."
        )
        facts = {
            "nonzeros": None,
            "parameters": None,
            "model_bytes": sizes["model"],
            "lm_bytes": sizes["lm"],
            "bytes": sizes["model"] + sizes["lm"],
        }
        depends_on = {"pocketsphinx": version}
        return Contestant(POCKETSPHINX, OWN, Job(()), depends_on, facts, None)

    def transcribe(
        self, contestant: Contestant, name: str, utterances: list[Utterance]
    ) -> CachedResult:
        """Transcribe a set, or take the cached result."""
        job = replace(contestant.job, recordings=whole_recordings(utterances))
        label = f"{contestant.network}, {contestant.decoder}, {name}"
        depends_on = {**contestant.depends_on, "set": digest_of(utterances)}
        cached = self.cache.get(label, depends_on, partial(_run, job))
        seconds = sum(u.duration for u in utterances)
        cpu, wall = sum(cached.result["cpu_seconds"]), sum(cached.result["seconds"])
        earlier = "" if cached.run == self.cache.run else f", computed {cached.date[:16]}"
        print(
            f"{label}: {seconds:.1f} s of audio, {cpu:.1f} s of processor time, "
            f"{wall:.1f} s by the clock{earlier}",
            flush=True,
        )
        return cached


def _run(job: Job) -> dict[str, Any]:
    return asdict(run(job))
