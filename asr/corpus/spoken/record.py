"""Records the lines of a part, chunk by chunk, in several processes, and continues after a kill.

A chunk is a few lines. What each finished chunk recorded is written to a small file of its own, so
that the next call repeats only the chunks that were being recorded.
"""

import json
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import soundfile

from asr import environment
from asr.audio import simulate
from asr.corpus.manifest import Utterance
from asr.corpus.spoken import synthesisers
from asr.corpus.spoken.settings import PARTS, AudioFormat, Part, SynthesiserName
from asr.corpus.workers import end_with_parent
from asr.errors import AsrError
from asr.files import atomic_write_text

SAMPLE_RATE = synthesisers.SAMPLE_RATE

# CTC needs an output frame (40 ms by default) for every character and one more between two equal
# ones, also when speed perturbation makes the speech a tenth shorter.
_SECONDS_PER_CHARACTER = 0.040 * 1.1
_SLOWER = 0.85
_CHUNK = 8
# Seconds of audio from which on starting processes (a second or so) pays.
_WORTH_PROCESSES = 120.0
_OPUS_KILOBITS = 24
# libsndfile's scale for Opus: 0 is 256 kbit/s and 1 is 6 for one channel.
_COMPRESSION = {"flac": None, "opus": (256 - _OPUS_KILOBITS) / (256 - 6)}

Recorded = list[tuple[str, float]]
"""For each line of a chunk its path in the folder of the part, and its seconds."""


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


@dataclass(frozen=True)
class Session:
    """Where and how the lines of a part are recorded."""

    part: Part
    seed: int
    folder: Path
    """Folder of the part."""
    audio: AudioFormat

    @property
    def chunks(self) -> Path:
        """Folder with a file for each finished chunk, until the part is complete."""
        return self.folder / ".chunks"

    def finished(self, chunk: int) -> Path:
        """The file that says what a finished chunk recorded."""
        return self.chunks / f"{chunk:06d}.json"


def record(
    lines: Iterator[Line],
    session: Session,
    seconds: float,
    processes: int,
    progress: Callable[[float], None] | None = None,
) -> list[Utterance]:
    """Record lines until there are `seconds` of audio; paths are relative to `session.folder`.

    `processes` is the number of processes, 0 for one a core. `progress` gets the fraction recorded.
    What a call that was killed has recorded is not recorded again.
    """
    session.chunks.mkdir(parents=True, exist_ok=True)
    count = processes or environment.cores()
    several = count > 1 and seconds > _WORTH_PROCESSES
    chunks = _chunks(lines, session, count) if several else _chunks_here(lines, session)
    utterances: list[Utterance] = []
    total = 0.0
    with closing(chunks):
        while total < seconds:
            for line, (path, duration) in zip(*next(chunks), strict=True):
                if total < seconds:
                    utterances.append(
                        Utterance(Path(path).stem, path, duration, line.text, line.voice.name)
                    )
                    total += duration
            if progress:
                progress(min(total / seconds, 1.0))
    wanted = {session.folder / utterance.audio_filepath for utterance in utterances}
    for ahead in set(session.folder.glob(f"*/*.{session.audio}")) - wanted:
        ahead.unlink()
    return utterances


_Chunks = Generator[tuple[list[Line], Recorded], None, None]


def _chunks_here(lines: Iterator[Line], session: Session) -> _Chunks:
    """Chunks of recorded lines in their order, endless, by this process."""
    number = 0
    while True:
        chunk = list(islice(lines, _CHUNK))
        yield chunk, _recorded(chunk, session, number) or record_chunk(chunk, session, number)
        number += 1


def _chunks(lines: Iterator[Line], session: Session, processes: int) -> _Chunks:
    """The same, made ahead by other processes."""
    pending: deque[tuple[list[Line], Future[Recorded]]] = deque()
    number = 0
    ended: AsrError | None = None  # raised when all lines before it are recorded
    # Not forked: the caller may have threads, of torch for one.
    pool = ProcessPoolExecutor(
        processes, mp_context=get_context("spawn"), initializer=end_with_parent
    )
    try:
        while True:
            while len(pending) < 2 * processes and not ended:
                try:
                    chunk = list(islice(lines, _CHUNK))
                except AsrError as error:
                    ended = error
                    break
                future: Future[Recorded] = Future()
                if recorded := _recorded(chunk, session, number):
                    future.set_result(recorded)
                else:
                    future = pool.submit(record_chunk, chunk, session, number)
                pending.append((chunk, future))
                number += 1
            if ended and not pending:
                raise ended
            chunk, future = pending.popleft()
            yield chunk, future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _recorded(chunk: list[Line], session: Session, number: int) -> Recorded | None:
    """What an earlier call recorded of a chunk; None if it has to be recorded."""
    file = session.finished(number)
    if not file.is_file():
        return None
    return [(path, seconds) for path, seconds in json.loads(file.read_text())]


def record_chunk(chunk: list[Line], session: Session, number: int) -> Recorded:
    """Record lines into the folder of the part, then say so in a file."""
    recorded = []
    for line in chunk:
        samples = perform(line, session.part, session.seed)
        path = Path(f"{line.speaker:03d}") / f"{session.part}-{line.number:06d}.{session.audio}"
        (session.folder / path).parent.mkdir(exist_ok=True)
        soundfile.write(
            session.folder / path,
            np.round(samples * 32767).astype(np.int16),
            SAMPLE_RATE,
            "OPUS" if session.audio == "opus" else "PCM_16",
            format="OGG" if session.audio == "opus" else "FLAC",
            compression_level=_COMPRESSION[session.audio],
        )
        recorded.append((str(path), len(samples) / SAMPLE_RATE))
    atomic_write_text(session.finished(number), json.dumps(recorded))
    return recorded


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
