"""When the words of a known text are said: forced alignment of a recording of any length.

The text is aligned with the log-probabilities of the whole recording (`Recogniser.run`).
"""

import os
from pathlib import Path

import numpy as np

from asr.audio.chunk import ChunkOptions
from asr.decode.alignment import find_words
from asr.decode.hypothesis import Word, text_of
from asr.errors import AsrError
from asr.files import atomic_write_text
from asr.text.normalise import normalise
from asr.transcribe.formats import find_writer
from asr.transcribe.options import TranscribeOptions
from asr.transcribe.recogniser import Recogniser
from asr.transcribe.transcript import Transcript


def align(
    recogniser: Recogniser,
    source: str | Path | np.ndarray,
    text: str,
    options: ChunkOptions | None = None,
) -> Transcript:
    """The words of `text`, as they are written there, with times and confidence.

    `source` is a file, or a mono waveform at the network's rate. Words are compared in normal form
    (`text.normalise`); what has none, such as a dash between two words, stays with the word
    before it. Raises AsrError for text that the tokenizer cannot encode or that has no word, and
    where text and recording do not fit each other.

    >>> from asr.transcribe.recogniser import load
    >>> transcript = align(load("model.asr"), "talk.flac", "- Bad; cafe!")
    >>> [(word.text, round(word.start, 1)) for word in transcript.words]
    [('- Bad;', 0.1), ('cafe!', 0.7)]
    """
    written = _original_words(text)
    if not written:
        raise AsrError("align: the text has no words")
    tokens = recogniser.tokenizer.encode(" ".join(form for _, form in written))
    chunked = TranscribeOptions(chunks=options or ChunkOptions())
    [(log_probs, seconds)] = recogniser.run(source, chunked)
    found = find_words(
        log_probs, tokens, recogniser.tokenizer, recogniser.frame_seconds, recogniser.calibration
    )
    words, first = [], 0
    for original, form in written:
        parts = found[first : first + len(form.split())]
        first += len(parts)
        assert " ".join(part.text for part in parts) == form, (parts, form)
        least = min(part.confidence for part in parts)
        words.append(Word(original, parts[0].start, parts[-1].end, least).shifted(0.0, seconds))
    path = "" if isinstance(source, np.ndarray) else str(source)
    return Transcript(path, text_of(words), seconds, recogniser.name, tuple(words), aligned=True)


def align_to(
    recogniser: Recogniser,
    path: str | Path,
    text: str,
    output: Path | None = None,
    format: str = "json",
    options: ChunkOptions | None = None,
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

    Raises AsrError for a file that is not text, or cannot be read.
    """
    if not os.path.isfile(text):  # unlike Path.is_file, this takes a text of any length
        return text
    try:
        return Path(text).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise AsrError(f"{text}: not a text file in UTF-8") from None
    except OSError as error:
        raise AsrError(f"{text}: cannot be read: {error.strerror}") from None


def _original_words(text: str) -> list[tuple[str, str]]:
    """Words as they are written, each with its normal form (one word or more)."""
    words: list[tuple[str, str]] = []
    leading = ""  # what precedes the first word and is not spoken, such as a dash
    for original in text.split():
        form = normalise(original)
        if form:
            words.append((leading + original, form))
            leading = ""
        elif words:
            before, its_form = words[-1]
            words[-1] = (f"{before} {original}", its_form)
        else:
            leading += f"{original} "
    return words
