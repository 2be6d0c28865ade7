"""What was transcribed: the texts, and the files that were written."""

from collections.abc import Iterable
from pathlib import Path

from asr.transcribe.provenance import RECORD
from asr.transcribe.transcript import Transcript

TEXTS = ["BAD CAFE", "A", "FEED A CAGED BEE", "", "DAD", "GABBED", "A BED", "EGG"]


def texts(transcripts: Iterable[Transcript]) -> list[str]:
    return [transcript.text for transcript in transcripts]


def files(folder: Path) -> dict[str, str]:
    """Every file below a folder, hidden ones too, and what is in it.

    The record of whose texts these are is not listed; it must be there.
    """
    found = {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()}
    assert found.pop(RECORD)
    return found
