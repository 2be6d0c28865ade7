"""When the words of a known text are said: forced alignment of a recording of any length.

The text is aligned with the log-probabilities of the whole recording (`Recogniser.run`).
"""

import difflib
import os
import re
import sys
from itertools import groupby
from pathlib import Path

import numpy as np

from asr.audio.chunk import ChunkOptions
from asr.decode.alignment import find_words
from asr.decode.hypothesis import Word, text_of
from asr.errors import AsrError
from asr.files import atomic_write_text, check_writable, print_if_lost
from asr.text.normalise import normalise
from asr.transcribe.formats import find_writer
from asr.transcribe.options import TranscribeOptions
from asr.transcribe.recogniser import Recogniser
from asr.transcribe.source import Source, name_of
from asr.transcribe.transcript import Transcript
from asr.transcribe.wildcard import WildcardTokenizer


def align(
    recogniser: Recogniser,
    source: Source,
    text: str,
    options: ChunkOptions | None = None,
) -> Transcript:
    """The words of `text`, as they are written there, with times and confidence.

    `source` is a file, or a mono waveform at the network's rate. Words are compared in normal form
    (`text.normalise`); what has none, such as a dash between two words, stays with the word
    before it. A word that the tokenizer cannot write, such as a number in digits, gets the time
    that the words around leave, confidence 0 and a note. Raises AsrError for text that has no word,
    or none that the tokenizer can write, and where text and recording do not fit each other.

    >>> from asr.transcribe.recogniser import load
    >>> transcript = align(load("model.asr"), "talk.flac", "- Bad; cafe!")
    >>> [(word.text, round(word.start, 1)) for word in transcript.words]
    [('- Bad;', 0.1), ('cafe!', 0.7)]
    """
    written = _original_words(text)
    if not written:
        raise AsrError("align: the text has no words")
    tokenizer = WildcardTokenizer(recogniser.tokenizer)
    forms = [form for _, form in written]
    unknown = [bool(tokenizer.unknown(form)) for form in forms]
    if all(unknown):
        recogniser.tokenizer.encode(" ".join(forms))  # raises, and says what is unknown
    chunked = TranscribeOptions(chunks=options or ChunkOptions())
    [(log_probs, seconds)] = recogniser.run(source, chunked)
    if any(unknown):
        log_probs = tokenizer.add_column(log_probs)
    found = find_words(
        log_probs,
        tokenizer.encode_known(forms),
        tokenizer if any(unknown) else recogniser.tokenizer,
        recogniser.frame_seconds,
        recogniser.calibration,
    )
    step = recogniser.frame_seconds
    words, first = [], 0
    for strange, run in groupby(zip(written, unknown, strict=True), key=lambda pair: pair[1]):
        group = [original_and_form for original_and_form, _ in run]
        if strange:
            begin, end = (round(time / step) for time in (found[first].start, found[first].end))
            begin, end = tokenizer.sound(log_probs, begin, end)
            words += _spread([original for original, _ in group], begin * step, end * step)
            first += 1
            continue
        for original, form in group:
            parts = found[first : first + len(form.split())]
            first += len(parts)
            assert " ".join(part.text for part in parts) == form, (parts, form)
            least = min(part.confidence for part in parts)
            words.append(Word(original, parts[0].start, parts[-1].end, least))
    words = [word.shifted(0.0, seconds) for word in words]
    path = name_of(source)
    notes = _notes(tokenizer, written)
    return Transcript(
        path, text_of(words), seconds, recogniser.name, tuple(words), notes=notes, aligned=True
    )


def _spread(words: list[str], start: float, end: float) -> list[Word]:
    """Words that are said from `start` to `end`, nobody knows when exactly: by their letters."""
    bounds = np.cumsum([0, *map(len, words)]) / sum(map(len, words)) * (end - start) + start
    return [
        Word(word, float(begin), float(finish), 0.0)
        for word, begin, finish in zip(words, bounds, bounds[1:], strict=False)
    ]


def _notes(tokenizer: WildcardTokenizer, written: list[tuple[str, str]]) -> tuple[str, ...]:
    """One note on the words whose times are only what the words around leave."""
    strange = [original for original, form in written if tokenizer.unknown(form)]
    if not strange:
        return ()
    characters = sorted(set().union(*(tokenizer.unknown(form) for _, form in written)))
    listed = ", ".join(strange[:5]) + (f" and {len(strange) - 5} more" if strange[5:] else "")
    lacking = " ".join(repr(character) for character in characters[:10])
    return (
        f"{len(strange)} of {len(written)} words cannot be aligned themselves, their times are "
        f"what the words around leave, their confidence is 0: {listed} (the tokenizer lacks "
        f"{lacking}; write numbers and signs as words)",
    )


def align_to(
    recogniser: Recogniser,
    path: str | Path,
    text: str,
    output: Path | None = None,
    format: str = "json",
    options: ChunkOptions | None = None,
) -> None:
    """Align one recording and print it in a format, or write it to the file `output`.

    `text` is the name of a text file, or else the words themselves. What is worth knowing about the
    times is said on standard error. Raises AsrError.
    """
    writer = find_writer(format)
    check_writable(output)
    transcript = align(recogniser, path, read_text(text), options)
    for note in transcript.notes:
        print(f"{path}: {note}", file=sys.stderr)
    document = writer.document(transcript)
    if output is None:
        print(document, end="")
        return
    with print_if_lost(document):
        atomic_write_text(output, document)


def read_text(text: str) -> str:
    """The content of a file of that name if there is one, else the words themselves.

    Raises AsrError for a file that is not text, or cannot be read, and for the name of a file that
    is not there: nobody says `transcript.txt`.
    """
    if not os.path.exists(text):  # unlike Path.exists, this takes a text of any length
        if looks_like_file(text):
            raise AsrError(
                f"{text}: no such text file{_nearest(text)}. If these are the words themselves, "
                "put them into a file and give its name"
            )
        return text
    if os.path.isdir(text):
        raise AsrError(f"{text}: is a folder; give the name of a text file, or the words")
    try:
        return Path(text).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise AsrError(f"{text}: not a text file in UTF-8") from None
    except OSError as error:
        raise AsrError(f"{text}: cannot be read: {error.strerror}") from None


_TEXT_SUFFIX = re.compile(
    r"\.(te?xt|md|rst|text|srt|vtt|tsv|csv|jsonl?|lab|lrc|trn|stm|ctm|asc|log|rtf|docx?|odt|pdf|html?"
    r"|xml|ya?ml|textgrid)",
    re.IGNORECASE,
)
_ANY_SUFFIX = re.compile(r"[^.\s]\.[a-z]\w{1,7}", re.IGNORECASE)


def looks_like_file(text: str) -> bool:
    """Whether a text is rather the name of a file than words.

    One line that ends like the name of a text file; or one word with a separator of folders, with
    another suffix (`notes.final`), or almost the name of a file that is there.

    >>> [looks_like_file(text) for text in ("my talk.txt", "texts/talk", "Wait...", "Yes, and/or")]
    [True, True, False, False]
    """
    line = text.strip()
    if not line or len(line.splitlines()) > 1 or len(line) > 4096:
        return False
    if _TEXT_SUFFIX.fullmatch(os.path.splitext(line)[1]):
        return True
    if len(line.split()) > 1:
        return line.startswith(("/", "./", "../", "~/"))
    separated = os.sep in line.strip(os.sep) or line.startswith(("/", "~"))
    return separated or bool(_ANY_SUFFIX.search(line)) or bool(_close_names(line, 0.8))


def _nearest(text: str) -> str:
    close = _close_names(text, 0.6)
    return f". Did you mean {close[0]!r}?" if close else ""


def _close_names(text: str, cutoff: float) -> list[str]:
    """Files beside a name that is not there whose names are almost the same."""
    folder, name = os.path.split(text.strip())
    try:
        names = [entry.name for entry in os.scandir(folder or ".") if entry.is_file()]
    except OSError:
        return []
    close = difflib.get_close_matches(name, names, n=1, cutoff=cutoff)
    return [os.path.join(folder, each) for each in close]


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
