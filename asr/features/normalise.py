"""Log-mel features to a common scale, so that gain, room and microphone matter less.

Both front ends call these functions, so that a network is trained on what it will be given.

    utterance   every frame counts: silence before, behind or between the words changes them
    speech      only frames near speech count, those of the same five seconds most
    running     as `speech`, but from the past alone: a stream can be normalised as it comes

Which frames are near speech is decided from the levels of the recording itself, between its
background and its loudest tenth of a second. Frames far below that (digital silence, a noise gate,
a muted microphone) hold nothing that a network was trained on. They are given the background of
the rest.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from asr.features import native
from asr.features.settings import DEVIATION_FLOOR, Frontend

Rows = NDArray[np.float32]
Doubles = NDArray[np.float64]

DECIBELS = 10 / np.log(10)
"""Of one natural logarithm of power."""
LOUD_SECONDS = 0.1
"""The level that so much of a recording exceeds is its loudest: a click is shorter."""
SPEECH_DECIBELS = 40.0
"""Frames further below the loudest are never speech."""
STEADY_DECIBELS = 6.0
"""Frames no further below the loudest are always speech: nothing tells apart what hardly varies."""
SPEECH_FRACTION = 0.4
"""Speech begins this far up from the background to the loudest, in decibels."""
SILENT_DECIBELS = 60.0
"""Frames further below the loudest hold no sound."""
BACKGROUND = 0.05
"""Quantile of the frames with sound that is the background, of the level and of each band."""
AROUND_SECONDS = 0.3
"""Frames so near to speech count as speech: a network is used to its pauses."""
WINDOW_SECONDS = 2.5
"""Before and behind a frame: from where its statistics are taken."""
WHOLE_SECONDS = 5.0
"""The statistics of the whole recording weigh as much as so many seconds of speech."""
RUNNING_SECONDS = 5.0
"""Speech so long ago counts 1/e of what is said now."""
DRIFT_DECIBELS = 1.0
"""A second, by which the loudest falls and the background rises while nothing renews them."""
LOUDEST_DECIBELS = 20.0
"""Of a stream before its first word: nine in ten recordings are louder. Without this guess the
noise before the first word would be taken for speech."""
PRIOR_SECONDS, PRIOR_BELOW, PRIOR_DEVIATION = 1.0, 12.0, 3.5
"""A stream begins as if so much speech had gone before, its mean so far below the loudest level
and with this deviation, both in natural logarithms of power: those of recorded speech."""
SILENT_VALUE = -1.5
"""Of frames without sound in a running normalisation: about where background lies."""
_BLOCK, _BANDS = 512, 8
"""Frames and bands at a time, so that memory beyond the result hardly grows with a recording."""
_LONG_AGO = 1 << 30


def normalise(rows: Rows, settings: Frontend) -> None:
    """Normalise the log-mel features `(frames, mels)` of one utterance in place."""
    if not len(rows) or settings.normalise == "none":
        return
    if settings.normalise == "utterance":
        _by_utterance(rows)
    elif settings.normalise == "speech":
        _by_speech(rows, settings)
    else:
        rows[:], _ = normalise_running(rows, settings)


def levels(rows: Rows) -> Doubles:
    """Power of each frame over all bands, in decibels."""
    power = np.empty(len(rows))
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK]
        np.exp(block).sum(axis=1, dtype=np.float64, out=power[start : start + _BLOCK])
    return DECIBELS * np.log(power)


def _by_utterance(rows: Rows) -> None:
    """Each band to mean 0 and (biased) standard deviation 1."""
    # Relative to the first frame digital silence is exactly 0. Without this the rounding of its
    # mean would be divided by the floor of the deviation and come out as noise.
    rows -= rows[0].copy()
    rows -= rows.mean(axis=0, dtype=np.float64).astype(np.float32)
    deviation = np.sqrt(np.einsum("ij,ij->j", rows, rows, dtype=np.float64) / len(rows))
    rows /= (deviation + DEVIATION_FLOOR).astype(np.float32)


def _by_speech(rows: Rows, settings: Frontend) -> None:
    """Each band to mean 0 and deviation 1 over the speech around, silence to the background."""
    frames = settings.frames_in
    level = levels(rows)
    loudest = _quantile(level, max(0, len(level) - frames(LOUD_SECONDS)))
    sound = level >= loudest - SILENT_DECIBELS
    rank = int(BACKGROUND * (sound.sum() - 1))
    background = _quantile(level[sound], rank)
    if not sound.all():
        rows[~sound] = np.partition(rows[sound], rank, axis=0)[rank]
    spoken = level >= _threshold(loudest, background)
    near = _near(spoken, frames(AROUND_SECONDS))
    speech = near.astype(np.float64)
    reach, weight = frames(WINDOW_SECONDS), frames(WHOLE_SECONDS)
    count, total = _around(speech, reach) + weight, speech.sum()
    if native.library():
        native.normalise(rows, near, count, reach, weight)
        return
    rows -= rows[int(speech.argmax())].copy()  # so that digital silence is exactly 0, as above
    # Bands as rows: sums along the frames then run through memory in order, three times faster.
    for first in range(0, rows.shape[1], _BANDS):
        bands = rows[:, first : first + _BANDS].T.astype(np.float64, order="C")
        bands -= (bands @ speech / total)[:, None]
        values = bands * speech
        mean = _around(values, reach) / count
        np.multiply(values, bands, out=values)
        whole = values.sum(axis=1, keepdims=True) / total
        variance = (_around(values, reach) + weight * whole) / count
        variance -= np.square(mean)
        bands -= mean
        bands /= np.sqrt(np.maximum(variance, 0.0, out=variance), out=variance) + DEVIATION_FLOOR
        rows[:, first : first + _BANDS] = bands.T


def _threshold(loudest: Doubles | float, background: Doubles | float) -> Doubles:
    """The level from which a frame is speech; what is given may be one value or one a frame."""
    below = np.minimum((1 - SPEECH_FRACTION) * (loudest - background), SPEECH_DECIBELS)
    return np.asarray(loudest - np.maximum(below, STEADY_DECIBELS))


def _quantile(values: Doubles, rank: int) -> float:
    return float(np.partition(values, rank)[rank])


def _near(marked: NDArray[np.bool_], reach: int) -> NDArray[np.bool_]:
    """Frames at most `reach` away from a marked one."""
    return _around(marked.astype(np.float64), reach) > 0.5


def _around(values: Doubles, reach: int) -> Doubles:
    """Sums over each frame and those at most `reach` away; frames are the last axis."""
    frames = values.shape[-1]
    sums = np.zeros((*values.shape[:-1], frames + 1))
    np.cumsum(values, axis=-1, out=sums[..., 1:])
    index = np.arange(frames)
    stop, start = np.minimum(index + reach + 1, frames), np.maximum(index - reach, 0)
    return sums.take(stop, axis=-1) - sums.take(start, axis=-1)


@dataclass(frozen=True)
class RunningState:
    """All that a running normalisation knows of the past; the default knows nothing.

    Frames are counted in blocks of `_BLOCK`. What drifts or decays is kept relative to the
    beginning of a block and brought up to date between two of them: so every number is the same
    however a stream is split, to the last bit.
    """

    frames: int = 0
    """Frames of the block so far; below, `drift` is what they add up to."""
    loudest: float = LOUDEST_DECIBELS
    """As `levels` gives it, plus `drift`."""
    background: float = np.inf
    """As `levels` gives it, minus `drift`."""
    latest: Doubles | None = None
    """Levels of the last tenth of a second."""
    since_speech: int = _LONG_AGO
    """Frames since the last one above the threshold."""
    spoken: int = 0
    """Frames of speech in the block so far: older sums count the less the more there are."""
    prior: float = 1.0
    """What was left at the beginning of the block of the weight of the guess before a stream."""
    sums: Doubles | None = None
    """Of `(1, x, x^2)` for every band, `(3, mels)`; older speech has less weight, that of the block
    the more the later it came."""


def normalise_running(
    rows: Rows, settings: Frontend, state: RunningState | None = None
) -> tuple[Rows, RunningState]:
    """The next features `(frames, mels)` of a stream, normalised, and the state behind them.

    What comes out does not depend on how the stream is split, not even in its last bit.

    >>> rows, settings = np.zeros((150, 80), np.float32), Frontend(normalise="running")
    >>> first, state = normalise_running(rows[:100], settings)
    >>> second, state = normalise_running(rows[100:], settings, state)
    >>> second.shape
    (50, 80)
    """
    state = state or RunningState()
    if state.sums is None:
        state = replace(state, sums=np.zeros((3, rows.shape[1])), latest=np.zeros(0))
    out = np.empty(rows.shape, np.float32)
    start = 0
    while start < len(rows):
        stop = min(start + _BLOCK - state.frames, len(rows))
        out[start:stop], state = _run(rows[start:stop], settings, state)
        start = stop
    return out, state


def _run(rows: Rows, settings: Frontend, state: RunningState) -> tuple[Rows, RunningState]:
    """Some frames of a block: the powers of the decay below stay within float64."""
    assert state.latest is not None
    assert state.sums is not None
    frames, time = settings.frames_in, state.frames + np.arange(1, len(rows) + 1)
    level = levels(rows)
    steady, latest = _lowest(level, state.latest, frames(LOUD_SECONDS))
    drift = DRIFT_DECIBELS * settings.step_seconds * time
    highest = np.maximum.accumulate(np.append(state.loudest, steady + drift))[1:]
    loudest = highest - drift
    silence = DECIBELS * np.log(settings.log_floor * settings.mels) + 3
    sound = level >= np.maximum(loudest - SILENT_DECIBELS, silence)
    lowest = np.append(state.background, np.where(sound, level, np.inf) - drift)
    lowest = np.minimum.accumulate(lowest)[1:]
    spoken = sound & (level >= _threshold(loudest, lowest + drift))
    marked = np.append(state.frames - state.since_speech, np.where(spoken, time, -_LONG_AGO))
    since = time - np.maximum.accumulate(marked)[1:]
    speech = sound & (since <= frames(AROUND_SECONDS))
    count = state.spoken + np.cumsum(speech)
    decay = (1 - 1 / frames(RUNNING_SECONDS)) ** count
    values = np.stack([np.ones(rows.shape), rows, np.square(rows, dtype=np.float64)], axis=1)
    values *= (speech / decay)[:, None, None]
    grown = np.cumsum(np.concatenate([state.sums[None], values]), axis=0)[1:]
    sums, prior = grown * decay[:, None, None], state.prior * decay
    guess = (loudest / DECIBELS - PRIOR_BELOW)[:, None]
    weight = (frames(PRIOR_SECONDS) * prior)[:, None]
    total = sums[:, 0] + weight
    mean = (sums[:, 1] + weight * guess) / total
    square = (sums[:, 2] + weight * (np.square(guess) + PRIOR_DEVIATION**2)) / total
    deviation = np.sqrt(np.maximum(square - np.square(mean), 0.0))
    out = (rows - mean) / (deviation + DEVIATION_FLOOR)
    out[~sound] = SILENT_VALUE
    full = int(time[-1]) == _BLOCK
    after = RunningState(
        frames=0 if full else int(time[-1]),
        loudest=float(loudest[-1] if full else highest[-1]),
        background=float(lowest[-1] + drift[-1] if full else lowest[-1]),
        latest=latest,
        since_speech=int(min(since[-1], _LONG_AGO)),
        spoken=0 if full else int(count[-1]),
        prior=float(prior[-1] if full else state.prior),
        sums=sums[-1] if full else grown[-1],
    )
    return out.astype(np.float32), after


def _lowest(level: Doubles, latest: Doubles, width: int) -> tuple[Doubles, Doubles]:
    """The lowest of each level and of the `width - 1` before it; the levels to go on with."""
    known = np.concatenate([np.full(width - 1 - len(latest), np.inf), latest, level])
    lowest = np.lib.stride_tricks.sliding_window_view(known, width).min(axis=1)
    return lowest, known[len(known) - width + 1 :]
