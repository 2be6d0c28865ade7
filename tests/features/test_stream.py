"""Features of a stream are those of the whole waveform, to the last bit, whatever the pieces."""

import numpy as np
import pytest

from asr.features.logmel import features
from asr.features.settings import Frontend
from asr.features.stream import FeatureStream


@pytest.mark.parametrize("normalise", ["running", "none"])
@pytest.mark.parametrize("longest", [2, 320, 2000, 30000])
def test_pieces_give_the_features_of_the_whole(normalise: str, longest: int) -> None:
    settings = Frontend(normalise=normalise)  # type: ignore[arg-type]
    rng = np.random.default_rng(longest)
    count = min(60000, 1000 * longest)
    samples = rng.normal(0, 0.05, count) * np.abs(np.sin(np.arange(count) / 7000))
    samples = samples.astype(np.float32)
    stream, parts, reached = FeatureStream(settings, features), [], 0
    while reached < count:
        size = int(rng.integers(0, longest))
        parts.append(stream.push(samples[reached : reached + size]))
        reached += size
    np.testing.assert_array_equal(np.concatenate(parts), features(samples, settings))
