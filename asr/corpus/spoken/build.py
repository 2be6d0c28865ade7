"""Makes the built-in spoken corpus: sentences, spoken by synthesisers, recorded in simulated rooms.

The sentences are those of our grammar, or of text files if the settings name some.

Everything is drawn from the seed: sentence, speaker and room of an utterance depend on
(seed, part, number of the utterance) and not on how many processes make it. Parts share neither
a sentence nor a voice.
"""

import json
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path

from asr.corpus.manifest import write_manifest
from asr.corpus.spoken import record, synthesisers
from asr.corpus.spoken.grammar import sentences
from asr.corpus.spoken.record import Line, Session
from asr.corpus.spoken.sentences import digest, from_texts
from asr.corpus.spoken.settings import PARTS, Part, Spoken, SynthesiserName
from asr.errors import AsrError
from asr.files import atomic_write_text, locked

EDITION = 1
"""Goes up by one when the same settings would give another corpus; part of the folder's name."""

_SETTINGS_FILE = "spoken.json"


def ensure(
    part: Part,
    settings: Spoken,
    root: Path = Path("data"),
    progress: Callable[[float], None] | None = None,
) -> Path:
    """Path of the manifest of `part`, `<folder>/<part>.jsonl`; made if it does not exist.

    Audio is FLAC or Opus at 16 kHz. The manifest is written last: if it exists, the part is
    complete, and a second call does nothing. A call that was killed is continued by the next one.
    Two processes may call at once. `progress` gets the fraction made.
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
            _build(part, settings, folder, progress)
    return manifest


def folder_of(settings: Spoken, root: Path = Path("data")) -> Path:
    """The folder of the corpus of these settings."""
    if settings.folder:
        return Path(settings.folder).expanduser()
    hours = "-".join(f"{h:g}h" for h in _hours(settings).values())
    source = f"text-{digest(settings.text)}" if settings.text else settings.vocabulary
    if _others_speak(settings):
        source += f"-{synthesisers.label(settings.synthesisers)}"
    if settings.audio != "flac":
        source += f"-{settings.audio}"
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


def _build(
    part: Part, settings: Spoken, folder: Path, progress: Callable[[float], None] | None
) -> None:
    """Record into the folder of the part, then write the manifest."""
    session = Session(part, settings.seed, folder / part, settings.audio)
    seconds = _hours(settings)[part] * 3600
    utterances = record.record(
        lines(part, settings), session, seconds, settings.processes, progress
    )
    placed = [replace(u, audio_filepath=str(session.folder / u.audio_filepath)) for u in utterances]
    write_manifest(folder / f"{part}.jsonl", placed)
    shutil.rmtree(session.chunks)


def _hours(settings: Spoken) -> dict[Part, float]:
    return {"train": settings.train_hours, "dev": settings.dev_hours, "test": settings.test_hours}


def _others_speak(settings: Spoken) -> bool:
    """Whether it is not espeak alone, which names and settings files of corpora do not mention."""
    return set(settings.synthesisers) != {"espeak"}


def _recorded(settings: Spoken) -> dict[str, object]:
    special = ("folder", "text", "synthesisers", "audio", "processes")
    plain = {k: v for k, v in asdict(settings).items() if k not in special}
    if settings.text:
        plain["text"] = digest(settings.text)
    if _others_speak(settings):
        plain["synthesisers"] = synthesisers.canonical(settings.synthesisers)
    if settings.audio != "flac":
        plain["audio"] = settings.audio
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
    # Keys of both: some are there only if they were given.
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
