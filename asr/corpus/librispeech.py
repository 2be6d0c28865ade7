"""LibriSpeech, and any folder in its layout, read where it lies.

    <part>/<speaker>/<chapter>/<speaker>-<chapter>-<utterance>.flac
    <part>/<speaker>/<chapter>/<speaker>-<chapter>.trans.txt     one "ID TEXT" a line

A folder with a `*.trans.txt` is a chapter, whatever lies above it: a chapter, a part and a root
of several parts are all read. Other files, and folders without transcripts, are skipped.
"""

from collections.abc import Iterator
from pathlib import Path

from asr.audio import is_recording, walk
from asr.corpus.manifest import Utterance, not_found, spelled, with_durations, with_list
from asr.errors import AsrError
from asr.text.read import BadLine, decode_line

OFFICIAL_PARTS = (
    "train-clean-100",
    "train-clean-360",
    "train-other-500",
    "dev-clean",
    "dev-other",
    "test-clean",
    "test-other",
)
_SUFFIXES = (".flac", ".wav", ".ogg", ".opus", ".mp3")
"""If a recording exists in several formats, the first of these; then any other kind."""
_TRANSCRIPT = ".trans.txt"


def scan(folder: str | Path) -> list[Utterance]:
    """Every utterance below `folder`, sorted by folder, within a chapter as in its transcript.

    Durations are those of the headers; a file whose header cannot be read has duration 0 and is
    left to `asr.corpus.check`, which reports it.

    Raises AsrError for a folder that does not exist or has no transcripts, and lists lines without
    a recording, recordings without a line, bad lines and ids that occur twice.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise missing_folder(folder)
    utterances: list[Utterance] = []
    problems: list[str] = []
    seen: dict[str, str] = {}
    chapters = 0
    for place, names in walk(folder):
        transcripts = [name for name in names if name.endswith(_TRANSCRIPT)]
        audio = _audio_by_id(place, names)
        chapters += bool(transcripts)
        with_text = set()
        for transcript in transcripts:
            for number, key, text in _lines(place / transcript, problems):
                where = f"{place / transcript}:{number}"
                with_text.add(key)
                if key in seen:
                    problems.append(f"{where}: id {key} is already used in {seen[key]}")
                elif key not in audio:
                    expected = f"{', '.join(_SUFFIXES)} or other audio"
                    problems.append(f"{where}: no recording {key} beside it ({expected})")
                else:
                    path = str(place / audio[key])
                    utterances.append(Utterance(key, path, 0.0, text, _speaker(transcript)))
                seen.setdefault(key, where)
        for key in sorted(set(audio) - with_text):
            if transcripts:
                problems.append(f"{place / audio[key]}: no line in {transcripts[0]} beside it")
            elif key.startswith(f"{place.parent.name}-{place.name}-"):
                # Named as LibriSpeech names them: the transcript was meant to be here.
                problems.append(f"{place / audio[key]}: no {_TRANSCRIPT[1:]} beside it")
    if problems:
        raise AsrError(
            with_list(f"{folder}: transcripts and recordings disagree: {len(problems)}", problems)
        )
    if not chapters:
        raise AsrError(
            f"{folder}: no *{_TRANSCRIPT} in it or below, so it is not in LibriSpeech's layout; "
            "recordings with texts in other files are read as a folder of your own"
        )
    return with_durations(utterances)


def has_layout(folder: str | Path) -> bool:
    """Whether a `*.trans.txt` lies anywhere below `folder`."""
    return any(name.endswith(_TRANSCRIPT) for _, names in walk(Path(folder)) for name in names)


def _audio_by_id(place: Path, names: list[str]) -> dict[str, str]:
    order = {suffix: rank for rank, suffix in enumerate(_SUFFIXES)}
    recordings = [name for name in names if is_recording(place / name)]
    # Preferred suffixes come last and so win.
    recordings.sort(key=lambda name: (-order.get(Path(name).suffix.lower(), len(order)), name))
    return {Path(name).stem: name for name in recordings}


def _lines(path: Path, problems: list[str]) -> Iterator[tuple[int, str, str]]:
    """Line number, id and text of each line; what is wrong goes to `problems`."""
    for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
        try:
            words = decode_line(line).strip()
        except BadLine as error:
            problems.append(f"{path}:{number}: {error}")
            continue
        if words:
            key, *text = words.split(maxsplit=1)
            yield number, key, text[0] if text else ""


def _speaker(transcript: str) -> str:
    """`84-121123.trans.txt` -> `84`."""
    return spelled(transcript.removesuffix(_TRANSCRIPT).rpartition("-")[0])


def missing_folder(folder: str | Path) -> AsrError:
    """The error for a folder that does not exist; lists the parts of LibriSpeech beside it."""
    folder = Path(folder)
    if folder.exists() or not folder.parent.is_dir():
        return not_found(folder, "folder")
    beside = sorted(entry.name for entry in folder.parent.iterdir() if entry.is_dir())
    if not {folder.name, *beside} & set(OFFICIAL_PARTS):
        return not_found(folder, "folder")
    parts = [name for name in beside if any((folder.parent / name).glob(f"*/*/*{_TRANSCRIPT}"))]
    known = " (one of LibriSpeech's seven parts)" if folder.name in OFFICIAL_PARTS else ""
    return AsrError(
        f"{folder}: no such folder{known}; parts in {folder.parent}: {', '.join(parts) or 'none'}"
    )
