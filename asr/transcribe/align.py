"""When the words of a known text are said: forced alignment of a recording of any length.

The network hears the recording chunk by chunk. Of two chunks that share audio each gives the
log-probabilities up to the centre of what they share, so that the text is followed through one
table for the whole recording: two hours are 20 MB for 29 symbols.
"""

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from asr.audio import chunk as chunks
from asr.decode.alignment import find_words
from asr.decode.hypothesis import Word
from asr.errors import AsrError
from asr.files import atomic_write_text
from asr.text.normalise import normalise
from asr.transcribe.formats import find_writer
from asr.transcribe.recogniser import Recogniser
from asr.transcribe.transcript import Transcript


def align(
    recogniser: Recogniser,
    source: str | Path | np.ndarray,
    text: str,
    options: chunks.ChunkOptions | None = None,
) -> Transcript:
    """The words of `text`, as they are written there, with times and confidence.

    `source` is a file, or a mono waveform at the network's rate. Words are compared in normal form
    (`text.normalise`); what has none, such as a dash between two words, stays with the word
    before it. Raises AsrError for text that the units cannot write or that has no word, and where
    text and recording do not fit each other.
    """
    written = _written(text)
    if not written:
        raise AsrError("align: the text has no word in it")
    tokens = recogniser.tokenizer.encode(" ".join(form for _, form in written))
    log_probs, seconds = hear(recogniser, source, options)
    found = find_words(
        log_probs, tokens, recogniser.tokenizer, recogniser.frame_seconds, recogniser.calibration
    )
    words, place = [], 0
    for shown, form in written:
        parts = found[place : place + len(form.split())]
        place += len(parts)
        assert " ".join(part.text for part in parts) == form, (parts, form)
        least = min(part.confidence for part in parts)
        words.append(Word(shown, parts[0].start, parts[-1].end, least).shifted(0.0, seconds))
    shown_text = " ".join(word.text for word in words)
    path = "" if isinstance(source, np.ndarray) else str(source)
    return Transcript(path, shown_text, seconds, recogniser.name, tuple(words), aligned=True)


def align_to(
    recogniser: Recogniser,
    path: str | Path,
    text: str,
    output: Path | None = None,
    format: str = "json",
    options: chunks.ChunkOptions | None = None,
) -> None:
    """Align one recording and print it in a format, or write it to the file `output`.

    `text` is the name of a text file, or else the words themselves. Raises AsrError.
    """
    writer = find_writer(format)
    if output is not None and output.is_dir():
        raise AsrError(f"{output}: is a folder; give the name of the file to write")
    transcript = align(recogniser, path, read_text(text), options)
    if output is None:
        print(writer.document(transcript), end="")
    else:
        atomic_write_text(output, writer.document(transcript))


def read_text(text: str) -> str:
    """The content of a file of that name if there is one, else the words themselves.

    Raises AsrError for a file that is no text, or cannot be read.
    """
    if not os.path.isfile(text):  # unlike Path.is_file, this takes a text of any length
        return text
    try:
        return Path(text).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise AsrError(f"{text}: not a text file in UTF-8") from None
    except OSError as error:
        raise AsrError(f"{text}: cannot be read: {error.strerror}") from None


def hear(
    recogniser: Recogniser,
    source: str | Path | np.ndarray,
    options: chunks.ChunkOptions | None = None,
) -> tuple[npt.NDArray[np.float32], float]:
    """Log-probabilities `(frames, units)` of a whole recording, and its length in seconds."""
    frame_seconds, rate = recogniser.frame_seconds, recogniser.frontend.sample_rate
    parts: list[npt.NDArray[np.float32]] = []
    reached, seconds = 0, 0.0
    for chunk in chunks.stream(source, rate, options):
        rows = recogniser.log_probs(chunk.samples)
        first = round(chunk.place.start / frame_seconds)
        if first > reached:  # nothing is shared, and a frame was lost to the chunk's end
            rows = np.concatenate([np.repeat(rows[:1], first - reached, axis=0), rows])
            first = reached
        elif parts:
            seam = round((chunk.place.start + seconds) / 2 / frame_seconds)
            seam = min(max(seam, first), reached)
            parts[-1] = parts[-1][: len(parts[-1]) - (reached - seam)]
            rows, first = rows[seam - first :], seam
        parts.append(rows)
        reached, seconds = first + len(rows), chunk.place.end
    if not parts:
        parts.append(np.zeros((0, recogniser.tokenizer.size), np.float32))
    return np.concatenate(parts), seconds


def _written(text: str) -> list[tuple[str, str]]:
    """Words as they are written, each with its normal form of one word or more."""
    words: list[tuple[str, str]] = []
    silent = ""
    for shown in text.split():
        form = normalise(shown)
        if form:
            words.append((silent + shown, form))
            silent = ""
        elif words:
            before, its_form = words[-1]
            words[-1] = (f"{before} {shown}", its_form)
        else:
            silent += f"{shown} "
    return words
