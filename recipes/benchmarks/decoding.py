"""How long decoding takes beside the length of the recordings, on one core.

    python recipes/benchmarks/decoding.py MODEL MANIFEST LM [utterances]

MODEL hears the first utterances (40) of MANIFEST once; then every decoder reads the same
log-probabilities. Printed is processor time over audio time: with the C search, with the same
search in Python (that of an installation without a compiler, on fewer utterances), and with
flashlight where the extra `lm` is installed. Wanted: at most 0.1 for beam 32 with a 3-gram in C.

With a 3-gram of 4.1 million n-grams, beam 32, on one core of two: log-probabilities of the demo's
network (sure of most frames) 0.0002 in C, 0.018 in Python, flashlight 0.0010; of a weak network
for real speech, with ten likely units a frame, 0.0012 in C, 0.052 in Python, flashlight 0.0017.
"""

import sys
import time
from collections.abc import Iterator, Sequence

import numpy as np

from asr.checkpoint import load_model
from asr.corpus import sources
from asr.corpus.datamodule import evaluation_batches
from asr.decode import Decoder, DecoderOptions, make_decoder, native
from asr.decode.beam import BeamDecoder
from asr.decode.lm import LanguageModel, open_lm
from asr.errors import AsrError
from asr.settings import Data
from asr.text import Units
from asr.transcribe import hear, set_threads

BEAMS = (32, 128)
WANTED = 0.1
IN_PYTHON = 6
"""Utterances that Python decodes: it takes a hundred times as long."""

Rows = Sequence[np.ndarray]


def main(model: str, manifest: str, lm_file: str, count: int = 40) -> int:
    set_threads(1)
    loaded, data = load_model(model), Data()
    utterances = sources.resolve(manifest, data)[:count]
    rows: list[np.ndarray] = []
    for batch in evaluation_batches(utterances, None, loaded.frontend, data):
        rows += hear(loaded.model, batch.features, batch.feature_lengths)
    seconds = sum(utterance.duration for utterance in utterances)
    frame = seconds / sum(map(len, rows))
    lm = open_lm(lm_file)
    print(
        f"{len(rows)} utterances, {seconds:.0f} s, {frame:.3f} s a frame; {lm.order}-gram {lm_file}"
    )
    print(f"{'decoder':<12}{'runs in':<9}{'beam':>5}{'LM':>5}{'x real time':>13}")
    reached = None
    for name, where, beam, with_lm, decoder, tried in decoders(loaded.units, lm_file, lm, rows):
        share = processor_seconds(decoder, tried) / (frame * sum(map(len, tried)))
        print(f"{name:<12}{where:<9}{beam:>5}{'yes' if with_lm else 'no':>5}{share:>13.4f}")
        if (name, where, beam, with_lm) == ("beam", "C", 32, True):
            reached = share
    if reached is None:
        print("the C search was not built: nothing to hold against what is wanted")
        return 1
    print(f"beam 32 with the language model in C: {reached:.4f} x real time of at most {WANTED}")
    return int(reached > WANTED)


def decoders(
    units: Units, lm_file: str, lm: LanguageModel, rows: Rows
) -> Iterator[tuple[str, str, int, bool, Decoder, Rows]]:
    """Name, language it runs in, beam, language model or not, decoder, what it is to decode."""
    yield "greedy", "numpy", 1, False, make_decoder(DecoderOptions(), units), rows
    for beam in BEAMS:
        for with_lm in (False, True):
            options = {"beam": beam, "lm": lm_file if with_lm else ""}
            decoder = BeamDecoder(DecoderOptions("beam", **options), units, lm)
            if native() == "C":
                yield "beam", "C", beam, with_lm, decoder, rows
            if beam == BEAMS[0]:
                slow = BeamDecoder(DecoderOptions("beam", **options), units, lm, native=False)
                yield "beam", "Python", beam, with_lm, slow, rows[:IN_PYTHON]
            try:
                other = make_decoder(DecoderOptions("flashlight", **options), units, lm)
            except AsrError as error:
                print(error, file=sys.stderr)
                continue
            yield "flashlight", "C++", beam, with_lm, other, rows


def processor_seconds(decoder: Decoder, rows: Rows) -> float:
    """Of decoding all `rows`, after one to warm up; unlike the clock, blind to other programs."""
    decoder.decode(rows[0])
    started = time.process_time()
    for row in rows:
        decoder.decode(row)
    return time.process_time() - started


if __name__ == "__main__":
    if len(sys.argv) not in (4, 5):
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:4], *map(int, sys.argv[4:])))
