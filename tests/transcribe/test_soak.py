"""Thousands of damaged files of every kind through one process: `asr transcribe` withstands them.

No traceback, no hang, no growing memory; and a status of 0 only if all words are there that can be
read.
"""

import random
import resource
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from encoded import MEDIA, SOUNDFILE, encode
from tone_network import RATE, save_tone_model, speak

from asr.transcribe.batch import transcribe_to
from asr.transcribe.recogniser import load

TEXT = "BAD CAFE DAD EGG FACE BED"
KINDS = [kind for kind in (*SOUNDFILE, *MEDIA) if kind not in ("wmv", "weba")]
HEADERLESS = ("ts", "aac", "mp2")
"""Nothing in these says how long they are: a cut between two frames cannot be seen."""
MUTATIONS = 2000
MEGABYTES = 60
SECONDS = 20.0


def cut(content: bytes, draw: random.Random) -> bytes:
    return content[: draw.randrange(len(content) // 5, len(content) - 600)]


def flip(content: bytes, draw: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(draw.choice([1, 1, 4, 30])):
        changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def flip_header(content: bytes, draw: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(draw.choice([1, 2, 8])):
        changed[draw.randrange(min(len(changed), 120))] = draw.randrange(256)
    return bytes(changed)


def remove(content: bytes, draw: random.Random) -> bytes:
    start = draw.randrange(len(content))
    return content[:start] + content[start + draw.randrange(1, len(content) // 3) :]


def insert(content: bytes, draw: random.Random) -> bytes:
    at = draw.randrange(len(content))
    return content[:at] + draw.randbytes(draw.randrange(1, 3000)) + content[at:]


def append(content: bytes, draw: random.Random) -> bytes:
    return content + draw.choice([b"\0" * 400, content, b"TAG".ljust(128, b"\0")])


Mutation = Callable[[bytes, random.Random], bytes]
ALL: list[Mutation] = [cut, flip, flip_header, remove, insert, append]


def words_of(text: str) -> int:
    return len(text.split())


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1])
def test_damaged_files_of_every_kind_end_in_words_or_in_a_message(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], seed: int
) -> None:
    recogniser = load(save_tone_model(tmp_path / "tone.asr"))
    whole = {kind: encode(kind, speak(TEXT, RATE)) for kind in KINDS}
    draw, lost, slowest, peak = random.Random(seed), [], 0.0, 0
    for number in range(MUTATIONS):
        kind, mutate = draw.choice(KINDS), draw.choice(ALL)
        path = tmp_path / f"{number}.{kind.rpartition('.')[2]}"
        path.write_bytes(mutate(whole[kind], draw))
        started = time.perf_counter()
        failed = transcribe_to(recogniser, [path])
        slowest = max(slowest, time.perf_counter() - started)
        out, err = capfd.readouterr()
        assert "Traceback" not in err, (number, kind, mutate.__name__, err)
        few = words_of(out) < words_of(TEXT) - 1
        if mutate in (cut, append) and not failed and few and kind not in HEADERLESS:
            lost.append((number, kind, mutate.__name__, out, err))
        path.unlink()
        if number == MUTATIONS // 4:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert lost == []
    assert slowest < SECONDS
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < MEGABYTES * 1024
