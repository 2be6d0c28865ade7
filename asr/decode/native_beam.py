"""Calls the C search of `asr/decode/beam.c` through ctypes; the structures equal those of C."""

import ctypes
import weakref
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
    c_void_p,
)
from typing import Any

import numpy as np
import numpy.typing as npt

from asr.decode.lm.model import ARRAYS, LanguageModel
from asr.decode.phrases import Phrases
from asr.decode.scoring import ScoredPrefix, Scorer, space_token


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
        ("finals", POINTER(c_double)),
        ("fails", POINTER(c_int32)),
        ("edges", c_int32),
    )


class _Settings(Structure):
    _fields_ = (
        ("spelling_starts", POINTER(c_int32)),
        ("spellings", POINTER(c_uint8)),
        ("usable", POINTER(c_uint8)),
        ("lm", POINTER(_Lm)),
        ("phrases", POINTER(_Phrases)),
        ("beam_threshold", c_double),
        ("token_threshold", c_double),
        ("lm_weight", c_double),
        ("word_bonus", c_double),
        ("unknown_score", c_double),
        ("token_count", c_int32),
        ("beam", c_int32),
        ("space", c_int32),
    )


class NativeSettings:
    """What searches in C share; threads may begin searches with the same settings."""

    def __init__(
        self,
        library: ctypes.CDLL,
        scorer: Scorer,
        beam: int,
        beam_threshold: float,
        token_threshold: float,
    ) -> None:
        self.library, self.beam = _declared(library), beam
        # C holds plain pointers: what they point to must live as long as the structures.
        self._alive: list[Any] = []
        spellings = [spelling or b"" for spelling in scorer.spellings]
        settings = _Settings(
            beam_threshold=beam_threshold,
            token_threshold=token_threshold,
            lm_weight=scorer.lm_weight,
            word_bonus=scorer.word_bonus,
            unknown_score=scorer.unknown_score,
            token_count=len(spellings),
            beam=beam,
            space=space_token(scorer.spellings),
        )
        self._point(
            settings,
            spelling_starts=np.cumsum([0, *map(len, spellings)], dtype=np.int32),
            spellings=np.frombuffer(b"".join(spellings) or b"\0", dtype=np.uint8),
            usable=np.array([text is not None for text in scorer.spellings], dtype=np.uint8),
        )
        if scorer.lm:
            settings.lm = POINTER(_Lm)(self._lm(scorer.lm))
        if scorer.phrases:
            settings.phrases = POINTER(_Phrases)(self._phrases(scorer.phrases))
        self.settings = settings

    def _point(self, structure: Structure, **arrays: npt.NDArray) -> None:
        types: dict[str, Any] = dict(structure._fields_)  # type: ignore[arg-type]
        for name, array in arrays.items():
            kind = types[name]
            assert array.flags.c_contiguous, name
            assert array.dtype == np.dtype(kind._type_), name
            self._alive.append(array)
            setattr(structure, name, ctypes.cast(array.ctypes.data, kind))

    def _lm(self, lm: LanguageModel) -> _Lm:
        structure = _Lm(
            size=lm.size,
            start=lm.start,
            eos=lm.eos,
            unknown=lm.unknown,
            prefix_count=len(lm.prefixes),
        )
        names = [name for name in ARRAYS if name != "vocabulary"]
        self._point(structure, **{name: getattr(lm, name) for name in names})
        return structure

    def _phrases(self, phrases: Phrases) -> _Phrases:
        structure = _Phrases(edges=len(phrases.keys))
        names = ("keys", "targets", "values", "finals", "fails")
        self._point(structure, **{name: getattr(phrases, name) for name in names})
        return structure


class NativeSearch:
    """`asr.decode.reference.Search` in C."""

    def __init__(self, shared: NativeSettings) -> None:
        self._shared, self._library = shared, shared.library
        search = self._library.asr_beam_begin(byref(shared.settings))
        if not search:
            raise MemoryError("beam search")
        self._search = c_void_p(search)
        self._free = weakref.finalize(self, self._library.asr_beam_free, self._search)

    def push(self, log_probs: npt.NDArray[np.float32]) -> None:
        """As in `Search`; `log_probs (frames, tokens)` are float32 and contiguous."""
        address = c_void_p(log_probs.ctypes.data)
        if not self._library.asr_beam_push(self._search, address, len(log_probs)):
            raise MemoryError("beam search")

    def best(self) -> tuple[int, ...]:
        """As in `Search`."""
        tokens = np.empty(self._library.asr_beam_room(self._search), np.int32)
        count = self._library.asr_beam_best(self._search, c_void_p(tokens.ctypes.data))
        return tuple(tokens[:count].tolist())

    def decide(self, agreed: int = 0) -> tuple[int, ...]:
        """As in `Search`."""
        tokens = np.empty(self._library.asr_beam_room(self._search), np.int32)
        address = c_void_p(tokens.ctypes.data)
        count = self._library.asr_beam_decide(self._search, agreed, address)
        if count < 0:
            raise MemoryError("beam search")
        return tuple(tokens[:count].tolist())

    def finish(self) -> list[ScoredPrefix]:
        """As in `Search`."""
        beam, room = self._shared.beam, self._library.asr_beam_room(self._search)
        lengths = np.empty(beam, dtype=np.int32)
        scores = np.empty((beam, 3), dtype=np.float64)
        tokens = np.empty((beam, room), dtype=np.int32)
        spikes = np.empty((beam, room), dtype=np.int32)
        addresses = [c_void_p(each.ctypes.data) for each in (lengths, scores, tokens, spikes)]
        count = self._library.asr_beam_finish(self._search, room, *addresses)
        if count < 0:
            raise MemoryError("beam search")
        results = []
        for i in range(count):
            length = int(lengths[i])
            score, acoustic, lm_score = scores[i].tolist()
            results.append(
                ScoredPrefix(
                    tuple(tokens[i, :length].tolist()),
                    tuple(spikes[i, :length].tolist()),
                    score,
                    acoustic,
                    lm_score,
                )
            )
        return results


def _declared(library: ctypes.CDLL) -> ctypes.CDLL:
    """The library with the types of its functions; those with no result return an int."""
    library.asr_beam_begin.restype = c_void_p
    library.asr_beam_free.restype = None
    library.asr_beam_push.argtypes = [c_void_p, c_void_p, c_int32]
    library.asr_beam_decide.argtypes = [c_void_p, c_int32, c_void_p]
    library.asr_beam_finish.argtypes = [c_void_p, c_int32, *4 * [c_void_p]]
    return library
