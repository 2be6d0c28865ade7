"""Waveform -> log-mel features with torch, for batches in training.

Frame i covers samples `[i * step, i * step + window)` under a periodic Hann window, centred in
the Fourier transform with zeros around it. The waveform is neither reflected nor padded at its
ends, so that a frame never sees padding.
"""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from asr.features.normalise import normalise
from asr.features.settings import Frontend


class LogMel(nn.Module):
    """Log-mel features of a padded batch of waveforms.

    Call it with `(batch, samples)` float32 and `(batch,)` lengths in samples; it returns
    `(batch, frames, mels)` float32 and `(batch,)` int64 lengths in frames. What lies beyond a
    length is exactly zero, and an utterance's features do not depend on its neighbours.
    """

    def __init__(self, settings: Frontend) -> None:
        super().__init__()
        # Imported here and nowhere else in the package: torchaudio is no longer developed.
        from torchaudio.transforms import MelScale, Spectrogram

        self.settings = settings
        self.spectrum = Spectrogram(
            n_fft=settings.fft_size,
            win_length=settings.window,
            hop_length=settings.step,
            power=None,
            center=False,
        )
        self.mel_scale = MelScale(
            n_mels=settings.mels,
            sample_rate=settings.sample_rate,
            f_min=settings.low_hertz,
            f_max=settings.high_hertz,
            n_stft=settings.fft_size // 2 + 1,
            norm=None,
            mel_scale="htk",
        )
        spare = settings.fft_size - settings.window
        # torch.stft takes frames of fft_size and centres the window in them. With these zeros at
        # both ends its frames begin where ours of `window` samples do.
        self.around = (spare // 2, spare - spare // 2)

    @torch.no_grad()
    def forward(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return features and their lengths; an utterance shorter than a window has no frames."""
        s = self.settings
        frames = (1 + (lengths.long() - s.window).div(s.step, rounding_mode="floor")).clamp(min=0)
        if waveforms.shape[1] < s.window:
            return waveforms.new_zeros(len(waveforms), 0, s.mels), frames
        spectrum = self.spectrum(nn.functional.pad(waveforms, self.around))
        # Not MelSpectrogram: it takes the root of this and squares it again, which costs a quarter
        # of the time of loading a batch.
        mel_power = self.mel_scale(spectrum.real.square() + spectrum.imag.square())
        features = (mel_power + s.log_floor).log_().transpose(1, 2).contiguous()
        inside = torch.arange(features.shape[1], device=frames.device) < frames[:, None]
        features.masked_fill_(~inside[..., None], 0.0)
        if s.normalise != "none":
            for utterance, count in zip(features, frames.tolist(), strict=True):
                rows = utterance[:count].cpu().numpy()
                normalise(rows, s)
                utterance[:count] = torch.from_numpy(rows)
        return features, frames


def features(samples: np.ndarray, settings: Frontend) -> Tensor:
    """Features `(frames, mels)` of one waveform, float32 at `settings.sample_rate`, on the CPU."""
    waveform = torch.from_numpy(np.ascontiguousarray(samples, dtype=np.float32))
    return _log_mel(settings)(waveform[None], torch.tensor([len(samples)]))[0][0]


@lru_cache(maxsize=8)
def _log_mel(settings: Frontend) -> LogMel:
    return LogMel(settings)
