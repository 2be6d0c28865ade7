"""Makes the built-in spoken corpus: sentences, spoken by synthesisers, recorded in simulated rooms.

The sentences are those of our grammar, or of text files if the settings name some.

Everything is drawn from the seed: sentence, speaker and room of an utterance depend on
(seed, part, number of the utterance) and not on how many processes make it. Parts share neither
a sentence nor a voice.
"""

import json
import os
import random
import shutil
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from itertools import islice
from multiprocessing import get_context, parent_process
from pathlib import Path

import numpy as np
import soundfile

from asr.audio import simulate
from asr.corpus.manifest import Utterance, write_manifest
from asr.corpus.spoken import synthesisers
from asr.corpus.spoken.grammar import sentences
from asr.corpus.spoken.sentences import digest, from_texts
from asr.corpus.spoken.settings import PARTS, Part, Spoken, SynthesiserName
from asr.errors import AsrError
from asr.files import atomic_write_text, locked

SAMPLE_RATE = synthesisers.SAMPLE_RATE
EDITION = 1
"""Goes up by one when the same settings would give another corpus; part of the folder's name."""

# CTC needs an output frame (40 ms by default) for every character and one more between two equal
# ones, also when speed perturbation makes the speech a tenth shorter.
_SECONDS_PER_CHARACTER = 0.040 * 1.1
_SLOWER = 0.85
_SETTINGS_FILE = "spoken.json"
_CHUNK = 8
_PROCESSES = 2
# Seconds of audio from which on starting processes (a second or so) pays.
_WORTH_PROCESSES = 120.0


@dataclass(frozen=True)
class Line:
    """What is spoken, by whom."""

    number: int
    text: str
    speaker: int
    synthesiser: SynthesiserName
    voice: synthesisers.Voice

    def ctc_frames(self) -> int:
        """Output frames that CTC needs: characters, and a blank between two equal ones."""
        return len(self.text) + sum(a == b for a, b in zip(self.text, self.text[1:], strict=False))


def ensure(
    part: Part,
    settings: Spoken,
    root: Path = Path("data"),
    progress: Callable[[float], None] | None = None,
) -> Path:
    """Path of the manifest of `part`, `<folder>/<part>.jsonl`; made if it does not exist.

    Audio is 16-bit FLAC at 16 kHz. The manifest is written last: if it exists, the part is
    complete, and a second call does nothing. Two processes may call at once. `progress` gets the
    fraction made.
    Scripts that call this need the usual `if __name__ == "__main__"`, since it starts processes.

    Raises AsrError if a synthesiser is missing, or the folder holds something else.
    """
    if part not in PARTS:
        raise AsrError(f"spoken:{part}: the built-in corpus has the parts {', '.join(PARTS)}")
    if settings.seed < 0:
        raise AsrError(f"data.spoken.seed={settings.seed}: not negative")
    speaking = synthesisers.of_part(part, settings.synthesisers, settings.seed)
    folder = folder_of(settings, root)
    manifest = folder / f"{part}.jsonl"
    new = _is_new(folder, settings)
    if manifest.is_file():
        return manifest
    synthesisers.require(speaking)
    if new:
        atomic_write_text(folder / _SETTINGS_FILE, json.dumps(_recorded(settings), indent=2) + "\n")
    with locked(folder / ".lock"):
        if not manifest.is_file():
            _clear_partial(folder, part)
            _build(part, settings, folder, progress)
    return manifest


def folder_of(settings: Spoken, root: Path = Path("data")) -> Path:
    """The folder of the corpus of these settings."""
    if settings.folder:
        return Path(settings.folder)
    hours = "-".join(f"{h:g}h" for h in _hours(settings).values())
    source = f"text-{digest(settings.text)}" if settings.text else settings.vocabulary
    if _others_speak(settings):
        source += f"-{synthesisers.label(settings.synthesisers)}"
    return root / "spoken" / f"{source}-{hours}-seed{settings.seed}-v{EDITION}"


def lines(part: Part, settings: Spoken) -> Iterator[Line]:
    """Lines of a part, endless with the grammar; the speakers of a synthesiser take turns.

    Raises AsrError when all sentences of `settings.text` are used.
    """
    speaking = synthesisers.of_part(part, settings.synthesisers, settings.seed)
    speakers: dict[SynthesiserName, list[tuple[int, synthesisers.Voice]]] = {}
    count = 0
    for name in dict.fromkeys(speaking):
        voices = synthesisers.SYNTHESISERS[name].voices(part, settings.seed)
        speakers[name] = list(enumerate(voices, start=count))
        count += len(voices)
    number = -1
    for number, text in enumerate(_sentences(part, settings)):
        draw = random.Random(f"synthesiser {settings.seed} {part} {number}")
        name = draw.choice(speaking)
        speaker, voice = speakers[name][number % len(speakers[name])]
        yield Line(number, text, speaker, name, voice)
    raise AsrError(
        f"data.spoken.text has {number + 1} sentences for the part {part}, fewer than its "
        f"{_hours(settings)[part]:g} hours need: give more text or ask for fewer hours"
    )


def _sentences(part: Part, settings: Spoken) -> Iterator[str]:
    if settings.text:
        return from_texts(settings.text, part, settings.seed)
    return sentences(settings.vocabulary, part, settings.seed)


def perform(line: Line, part: Part, seed: int) -> np.ndarray:
    """The line as recorded: (n,) float32 at 16 kHz, slowed down where CTC could not align it."""
    voice = line.voice
    least = round(line.ctc_frames() * _SECONDS_PER_CHARACTER * SAMPLE_RATE)
    while True:
        speech = _trim(synthesisers.speak(line.synthesiser, line.text.lower(), voice))
        if len(speech) >= least:
            break
        voice = voice.slower(_SLOWER)
    generator = np.random.default_rng([seed, PARTS.index(part), line.number])
    return simulate.record(speech, simulate.draw_room(generator), SAMPLE_RATE, generator)


def _trim(speech: np.ndarray) -> np.ndarray:
    """Without the silence before and after."""
    loud = np.flatnonzero(np.abs(speech) > 0.01 * np.abs(speech).max())
    return speech[loud[0] : loud[-1] + 1]


def _write_chunk(chunk: list[Line], part: Part, seed: int, folder: Path) -> list[tuple[str, float]]:
    """Record the lines into `folder`; for each the path in it and the seconds."""
    written = []
    for line in chunk:
        samples = perform(line, part, seed)
        path = Path(f"{line.speaker:03d}") / f"{part}-{line.number:06d}.flac"
        (folder / path).parent.mkdir(exist_ok=True)
        soundfile.write(folder / path, np.round(samples * 32767).astype(np.int16), SAMPLE_RATE)
        written.append((str(path), len(samples) / SAMPLE_RATE))
    return written


def _end_with_parent() -> None:
    """Workers of a process that was killed would wait for work for ever."""
    parent = parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


_Recorded = Generator[tuple[list[Line], list[tuple[str, float]]], None, None]


def _chunks_here(part: Part, settings: Spoken, folder: Path) -> _Recorded:
    """Chunks of recorded lines in their order, endless, made by this process."""
    source = lines(part, settings)
    while True:
        chunk = list(islice(source, _CHUNK))
        yield chunk, _write_chunk(chunk, part, settings.seed, folder)


def _chunks(part: Part, settings: Spoken, folder: Path) -> _Recorded:
    """The same, made ahead by two other processes."""
    source = lines(part, settings)
    pending: deque[tuple[list[Line], Future[list[tuple[str, float]]]]] = deque()
    # Not forked: the caller may have threads, of torch for one.
    pool = ProcessPoolExecutor(
        _PROCESSES, mp_context=get_context("spawn"), initializer=_end_with_parent
    )
    try:
        while True:
            while len(pending) < 2 * _PROCESSES:
                chunk = list(islice(source, _CHUNK))
                future = pool.submit(_write_chunk, chunk, part, settings.seed, folder)
                pending.append((chunk, future))
            chunk, future = pending.popleft()
            yield chunk, future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _build(
    part: Part, settings: Spoken, folder: Path, progress: Callable[[float], None] | None
) -> None:
    """Record into a `.partial` folder, rename it, then write the manifest."""
    partial = folder / f".{part}.{os.getpid()}.partial"
    partial.mkdir()
    try:
        utterances = _record(part, settings, partial, progress)
        # It exists if a call was killed after this, or won a race. It is complete, and the same,
        # for it was made from the same settings.
        if not (folder / part).is_dir():
            partial.rename(folder / part)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    placed = [replace(u, audio_filepath=str(folder / part / u.audio_filepath)) for u in utterances]
    write_manifest(folder / f"{part}.jsonl", placed)


def _record(
    part: Part, settings: Spoken, folder: Path, progress: Callable[[float], None] | None
) -> list[Utterance]:
    """As many lines as fill the hours; audio paths are relative to `folder`."""
    wanted = _hours(settings)[part] * 3600
    chunks = _chunks if wanted > _WORTH_PROCESSES else _chunks_here
    utterances: list[Utterance] = []
    seconds = 0.0
    with closing(chunks(part, settings, folder)) as recorded:
        while seconds < wanted:
            for line, (path, duration) in zip(*next(recorded), strict=True):
                if seconds < wanted:
                    utterances.append(
                        Utterance(Path(path).stem, path, duration, line.text, line.voice.name)
                    )
                    seconds += duration
            if progress:
                progress(min(seconds / wanted, 1.0))
    kept = {folder / utterance.audio_filepath for utterance in utterances}
    for path_ahead in set(folder.glob("*/*.flac")) - kept:
        path_ahead.unlink()
    return utterances


def _hours(settings: Spoken) -> dict[Part, float]:
    return {"train": settings.train_hours, "dev": settings.dev_hours, "test": settings.test_hours}


def _others_speak(settings: Spoken) -> bool:
    """Whether it is not espeak alone, which names and settings files of corpora do not mention."""
    return set(settings.synthesisers) != {"espeak"}


def _recorded(settings: Spoken) -> dict[str, object]:
    special = ("folder", "text", "synthesisers")
    plain = {k: v for k, v in asdict(settings).items() if k not in special}
    if settings.text:
        plain["text"] = digest(settings.text)
    if _others_speak(settings):
        plain["synthesisers"] = synthesisers.canonical(settings.synthesisers)
    return plain | {"edition": EDITION}


def _is_new(folder: Path, settings: Spoken) -> bool:
    """Whether the folder is free; False: a corpus of these settings has been started there."""
    file = folder / _SETTINGS_FILE
    if not file.is_file():
        taken = [str(folder / n) for p in PARTS for n in (p, f"{p}.jsonl") if (folder / n).exists()]
        if taken:
            raise AsrError(
                f"{taken[0]} exists and is not part of a spoken corpus: "
                "give another data.spoken.folder"
            )
        return True
    found, wanted = json.loads(file.read_text()), _recorded(settings)
    # Keys of both: text and synthesisers are there only if they were given.
    different = ", ".join(
        f"{key}={found.get(key)} instead of {wanted.get(key)}"
        for key in wanted | found
        if found.get(key) != wanted.get(key)
    )
    if different:
        raise AsrError(
            f"{folder} holds a spoken corpus of other settings ({different}): "
            "remove it, or give another data.spoken.folder"
        )
    return False


def _clear_partial(folder: Path, part: Part) -> None:
    for stale in folder.glob(f".{part}.*.partial"):
        shutil.rmtree(stale, ignore_errors=True)
