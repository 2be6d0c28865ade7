"""Settings of the built-in spoken corpus."""

from dataclasses import dataclass, field
from typing import Literal

from asr.errors import problems
from asr.plain import at_most, refuse_unused

SynthesiserName = Literal["espeak", "kokoro"]
AudioFormat = Literal["flac", "opus"]
Vocabulary = Literal["small", "large"]
Part = Literal["train", "dev", "test"]
PARTS: tuple[Part, ...] = ("train", "dev", "test")


@dataclass(frozen=True)
class Spoken:
    """The built-in spoken corpus, of synthetic speech; used by entries `spoken:train` and so on."""

    vocabulary: Vocabulary = "small"
    """Grammar: `small` has about 300 words, `large` at least 1,500."""
    text: list[str] = field(default_factory=list)
    """Text files (plain, gzip, xz) or manifests whose lines are spoken instead of a grammar's."""
    synthesisers: list[SynthesiserName] = field(default_factory=lambda: ["espeak"])
    """Who speaks: each sentence draws one of these; one that is listed twice is drawn twice as
    often. `kokoro` needs a model, see asr/corpus/spoken/kokoro.py."""
    audio: AudioFormat = "flac"
    """`flac` is lossless; `opus` (24 kbit/s) takes a tenth of the disk."""
    processes: int = 0
    """Processes that speak at once; 0: one for each core."""
    train_hours: float = 1.0
    """Hours of the part `train`."""
    dev_hours: float = 0.1
    """Hours of the part `dev`."""
    test_hours: float = 0.3
    """Hours of the part `test`."""
    seed: int = 1
    """Everything is drawn from it: sentences, voices and rooms."""
    folder: str = ""
    """Where it is made; empty: `data/spoken/<a name made from these settings>`."""

    def __post_init__(self) -> None:
        with problems() as check:
            for name in ("train_hours", "dev_hours", "test_hours"):
                check(getattr(self, name) > 0, f"data.spoken.{name}={getattr(self, name)}: above 0")
            at_most(
                check, "data.spoken", self, train_hours=10**5, dev_hours=10**5, test_hours=10**5
            )
            check(self.processes >= 0, f"data.spoken.processes={self.processes}: 0 or more")
            at_most(check, "data.spoken", self, processes=1024)
            check(self.seed >= 0, f"data.spoken.seed={self.seed}: 0 or more")
            at_most(check, "data.spoken", self, seed=2**63 - 1)
            check(len(self.synthesisers) > 0, "data.spoken.synthesisers=[]: name at least one")
            refuse_unused(
                check,
                "data.spoken",
                self,
                (("vocabulary",), not self.text, "a grammar, and data.spoken.text replaces it"),
            )
