"""A miniature of LibriSpeech: archives in the real layout, with sums of their own."""

import hashlib
import io
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile

from asr.corpus.openslr import SpeechPart

WORDS = ("CHAPTER", "ONE", "MISSUS", "RACHEL", "LYNDE", "IS", "SURPRISED", "AND", "SO")


def archive(
    part: str,
    speakers: int = 2,
    utterances: int = 3,
    seconds: float = 1.0,
    first: int = 100,
) -> bytes:
    """`part.tar.gz`: LibriSpeech/<part>/<speaker>/<chapter>/ with FLAC and transcripts.

    The speakers are `first` and those that follow.
    """
    draw = np.random.default_rng(len(part) + first - 100)
    files = {"LibriSpeech/SPEAKERS.TXT": b"; ID | SEX | SUBSET\n"}
    for speaker in range(first, first + speakers):
        folder, lines = f"LibriSpeech/{part}/{speaker}/7", []
        for number in range(utterances):
            key = f"{speaker}-7-{number:04d}"
            flac = io.BytesIO()
            length = round(seconds * 16000 * draw.uniform(0.8, 1.2))
            soundfile.write(flac, draw.normal(0, 0.05, length), 16000, format="FLAC")
            files[f"{folder}/{key}.flac"] = flac.getvalue()
            lines.append(f"{key} {' '.join(draw.choice(WORDS, 3))}\n")
        files[f"{folder}/{speaker}-7.trans.txt"] = "".join(lines).encode()
    return tar_gz(files)


def tar_gz(files: dict[str, bytes], *more: tarfile.TarInfo) -> bytes:
    """An archive of files by name, then of members such as links."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        for member in more:
            tar.addfile(member)
    return packed.getvalue()


def entry(name: str, content: bytes, utterances: int) -> SpeechPart:
    """The row of a parts table for an archive."""
    return SpeechPart(name, hashlib.md5(content).hexdigest(), len(content), utterances)


def write(
    folder: Path, parts: Sequence[str] = ("dev-clean", "test-clean"), **sizes: float
) -> dict[str, SpeechPart]:
    """Archives of parts in a folder, and their table; no speaker is in two of them."""
    table = {}
    speakers, utterances = int(sizes.get("speakers", 2)), int(sizes.get("utterances", 3))
    for number, part in enumerate(parts):
        content = archive(part, **{"first": 100 + 10 * number, **sizes})
        (folder / f"{part}.tar.gz").write_bytes(content)
        table[part] = entry(f"{part}.tar.gz", content, speakers * utterances)
    return table
