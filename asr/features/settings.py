"""How a waveform becomes log-mel features: the settings that both implementations follow."""

from dataclasses import dataclass
from typing import Literal

from asr.errors import problems

DEVIATION_FLOOR = 1e-5
"""Added to a band's standard deviation before the division: digital silence stays zero."""


@dataclass(frozen=True)
class Frontend:
    """Waveform to log-mel features; complete, so that a file needs nothing else to rebuild them.

    Raises AsrError, with all that is wrong at once, for values out of range.
    """

    sample_rate: int = 16000
    """Samples per second of the waveform; recordings of another rate are resampled to it."""
    window_seconds: float = 0.025
    """Length of the Hann window."""
    step_seconds: float = 0.010
    """Distance between two frames."""
    fft_size: int = 512
    """Points of the Fourier transform, the window centred in it and zeros around."""
    mels: int = 80
    """Mel bands (HTK scale, triangles of peak 1)."""
    low_hertz: float = 20.0
    """Lower edge of the first band."""
    high_hertz: float = 7600.0
    """Upper edge of the last band."""
    log_floor: float = 1e-6
    """Added to the mel power before the natural logarithm."""
    normalise: Literal["utterance", "speech", "running", "none"] = "speech"
    """Each band to mean 0 and standard deviation 1: over all frames of the `utterance`, over the
    frames near `speech` (silence then hardly changes them), over the `running` past alone."""

    def __post_init__(self) -> None:
        with problems() as check:
            # The upper bounds keep a file from a stranger from asking for huge tables.
            check(
                1000 <= self.sample_rate <= 384_000,
                f"frontend.sample_rate={self.sample_rate}: from 1000 to 384000",
            )
            check(
                0.001 <= self.step_seconds <= self.window_seconds,
                f"frontend.step_seconds={self.step_seconds}: at least 0.001 and not above "
                "window_seconds",
            )
            check(
                self.window_seconds <= 1,
                f"frontend.window_seconds={self.window_seconds}: at most 1",
            )
            check(
                self.window <= self.fft_size,
                f"frontend.fft_size={self.fft_size}: below the window of {self.window} samples",
            )
            check(self.fft_size <= 2**16, f"frontend.fft_size={self.fft_size}: at most 65536")
            check(
                self.fft_size % 2 == 0,
                f"frontend.fft_size={self.fft_size}: must be even, mel bands assume it",
            )
            check(1 <= self.mels <= 1024, f"frontend.mels={self.mels}: from 1 to 1024")
            check(
                0 <= self.low_hertz < self.high_hertz <= self.sample_rate / 2,
                f"frontend.low_hertz={self.low_hertz}, high_hertz={self.high_hertz}: need "
                f"0 <= low < high <= {self.sample_rate / 2:g}, half the sample rate",
            )
            check(
                1e-30 <= self.log_floor <= 1,
                f"frontend.log_floor={self.log_floor}: from 1e-30, which float32 holds, to 1",
            )

    @property
    def window(self) -> int:
        """Window length in samples."""
        return round(self.window_seconds * self.sample_rate)

    @property
    def step(self) -> int:
        """Step in samples."""
        return round(self.step_seconds * self.sample_rate)

    def frames_in(self, seconds: float) -> int:
        """Steps in `seconds`, at least one."""
        return max(1, round(seconds / self.step_seconds))

    def frames(self, samples: int) -> int:
        """Frames of a waveform of `samples` samples: windows that lie wholly inside it."""
        return 0 if samples < self.window else 1 + (samples - self.window) // self.step
