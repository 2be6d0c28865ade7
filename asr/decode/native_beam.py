"""The C search of `asr/decode/beam.c`, called through ctypes; twins of its structures."""

import ctypes
from ctypes import (
    POINTER,
    Structure,
    byref,
    c_double,
    c_float,
    c_int32,
    c_uint8,
    c_uint32,
    c_uint64,
)
from typing import Any

import numpy as np
import numpy.typing as npt

from asr.decode.lm.model import ARRAYS, LanguageModel
from asr.decode.phrases import Phrases
from asr.decode.reference import Found
from asr.decode.scoring import Reader, space_unit


class _Lm(Structure):
    _fields_ = (
        ("first", POINTER(c_uint32)),
        ("backoffs", POINTER(c_float)),
        ("lowers", POINTER(c_uint32)),
        ("words", POINTER(c_uint32)),
        ("logs", POINTER(c_float)),
        ("nexts", POINTER(c_uint32)),
        ("hashes", POINTER(c_uint64)),
        ("hash_words", POINTER(c_uint32)),
        ("prefixes", POINTER(c_uint64)),
        ("prefix_logs", POINTER(c_float)),
        ("size", c_uint32),
        ("start", c_uint32),
        ("eos", c_uint32),
        ("unknown", c_uint32),
        ("prefix_count", c_uint32),
    )


class _Phrases(Structure):
    _fields_ = (
        ("keys", POINTER(c_int32)),
        ("targets", POINTER(c_int32)),
        ("values", POINTER(c_double)),
        ("keeps", POINTER(c_double)),
        ("fails", POINTER(c_int32)),
        ("edges", c_int32),
    )


class _Settings(Structure):
    _fields_ = (
        ("spelt_first", POINTER(c_int32)),
        ("spelt", POINTER(c_uint8)),
        ("usable", POINTER(c_uint8)),
        ("lm", POINTER(_Lm)),
        ("phrases", POINTER(_Phrases)),
        ("beam_threshold", c_double),
        ("token_threshold", c_double),
        ("lm_weight", c_double),
        ("word_bonus", c_double),
        ("unknown_score", c_double),
        ("tokenizer", c_int32),
        ("beam", c_int32),
        ("space", c_int32),
    )


class CompiledSearch:
    """`asr.decode.reference.search` with everything but the log-probabilities bound."""

    def __init__(
        self,
        library: ctypes.CDLL,
        reader: Reader,
        beam: int,
        beam_threshold: float,
        token_threshold: float,
    ) -> None:
        self._function = library.asr_beam_search
        self._function.restype = c_int32
        self._beam = beam
        # Whatever the structures point to must live as long as they do.
        self._alive: list[Any] = []
        spelt = [content or b"" for content in reader.spelt]
        settings = _Settings(
            beam_threshold=beam_threshold,
            token_threshold=token_threshold,
            lm_weight=reader.lm_weight,
            word_bonus=reader.word_bonus,
            unknown_score=reader.unknown_score,
            tokenizer=len(spelt),
            beam=beam,
            space=space_unit(reader.spelt),
        )
        self._point(
            settings,
            spelt_first=np.cumsum([0, *map(len, spelt)], dtype=np.int32),
            spelt=np.frombuffer(b"".join(spelt) or b"\0", dtype=np.uint8),
            usable=np.array([content is not None for content in reader.spelt], dtype=np.uint8),
        )
        if reader.lm:
            settings.lm = POINTER(_Lm)(self._lm(reader.lm))
        if reader.phrases:
            settings.phrases = POINTER(_Phrases)(self._phrases(reader.phrases))
        self._settings = settings

    def _point(self, structure: Structure, **arrays: npt.NDArray) -> None:
        types: dict[str, Any] = dict(structure._fields_)  # type: ignore[arg-type]
        for name, array in arrays.items():
            kind = types[name]
            assert array.flags.c_contiguous, name
            assert array.dtype == np.dtype(kind._type_), name
            self._alive.append(array)
            setattr(structure, name, ctypes.cast(array.ctypes.data, kind))

    def _lm(self, lm: LanguageModel) -> _Lm:
        twin = _Lm(
            size=lm.size,
            start=lm.start,
            eos=lm.eos,
            unknown=lm.unknown,
            prefix_count=len(lm.prefixes),
        )
        names = [name for name in ARRAYS if name != "vocabulary"]
        self._point(twin, **{name: getattr(lm, name) for name in names})
        return twin

    def _phrases(self, phrases: Phrases) -> _Phrases:
        twin = _Phrases(edges=len(phrases.keys))
        names = ("keys", "targets", "values", "keeps", "fails")
        self._point(twin, **{name: getattr(phrases, name) for name in names})
        return twin

    def __call__(self, log_probs: npt.NDArray[np.float32]) -> list[Found]:
        """Prefixes of the beam, best first; `log_probs (frames, units)` float32 and contiguous."""
        frames = len(log_probs)
        lengths = np.empty(self._beam, dtype=np.int32)
        scores = np.empty((self._beam, 3), dtype=np.float64)
        tokens = np.empty((self._beam, frames), dtype=np.int32)
        spikes = np.empty((self._beam, frames), dtype=np.int32)
        places = (array.ctypes.data for array in (lengths, scores, tokens, spikes))
        count = self._function(
            byref(self._settings),
            ctypes.c_void_p(log_probs.ctypes.data),
            c_int32(frames),
            *map(ctypes.c_void_p, places),
        )
        if count < 0:
            raise MemoryError("beam search")
        found = []
        for i in range(count):
            length = int(lengths[i])
            score, acoustic, lm_score = scores[i].tolist()
            found.append(
                Found(
                    tuple(tokens[i, :length].tolist()),
                    tuple(spikes[i, :length].tolist()),
                    score,
                    acoustic,
                    lm_score,
                )
            )
        return found
