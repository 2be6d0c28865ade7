"""Numbers beyond all use: every setting and option refuses them in a sentence, or works."""

import dataclasses
import typing
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.audio.chunk import ChunkOptions
from asr.corpus.check import Criteria
from asr.decode import DecoderOptions
from asr.errors import AsrError
from asr.model.dimensions import Model
from asr.settings.run import Run
from asr.settings.yaml import describe, load
from asr.text.tokenizer import train_sentencepiece
from asr.train.run import build_model
from asr.transcribe.options import TranscribeOptions
from asr.transcribe.subtitles import SubtitleOptions

HARMLESS = {"seed", "data.spoken.seed", "optimiser.clip_norm", "training.checkpoint_steps"}
"""Settings that take a hundred million."""
REPLACED = {"model.outputs"}
"""Set from the tokenizer, whatever is given."""
ELSEWHERE = {"pruning." + name for name in ("start", "ramp", "end", "at", "drop_fraction")}
"""Fractions that `asr.train.pruning.check_pruning` refuses, if the method uses them."""
NEEDED = ["augment.noise_probability=0.5", "optimiser.name=nesterov"]

NUMBERS = [key for key, kind, _, _ in describe(Run) if kind.split(" | ")[0] in ("int", "float")]
LISTS = [key for key, kind, _, _ in describe(Run) if "int]" in kind or "float]" in kind]
OPTIONS = [(ChunkOptions, {}), (DecoderOptions, {"decoder": "beam", "lm": "x", "phrases": ("A",)}),
           (TranscribeOptions, {}), (SubtitleOptions, {})]  # fmt: skip
OPTION_FIELDS = [
    (kind, field.name, given)
    for kind, given in OPTIONS
    for field in dataclasses.fields(kind)
    if typing.get_type_hints(kind)[field.name] in (int, float)
]


def settings(key: str, value: str) -> Run:
    return load(Run, None, [*(n for n in NEEDED if not n.startswith(key)), f"{key}={value}"])


@pytest.mark.parametrize("key", NUMBERS)
@pytest.mark.parametrize("value", [".inf", "-.inf", ".nan", "inf", "nan"])
def test_no_setting_is_infinite_or_not_a_number(key, value):
    with pytest.raises(AsrError, match=f"{key}.*expected a"):
        settings(key, value)


@pytest.mark.parametrize("key", sorted(set(NUMBERS) - HARMLESS - REPLACED - ELSEWHERE))
def test_a_setting_beyond_all_use_is_refused_by_its_name(key):
    with pytest.raises(AsrError, match=key.rpartition(".")[2]):
        settings(key, "100000000")


@pytest.mark.parametrize("key", sorted(set(NUMBERS) - REPLACED - ELSEWHERE))
@pytest.mark.parametrize("value", ["1" + "0" * 400, "1e400", "9" * 5000])
def test_a_setting_that_no_float_holds_is_refused(key, value):
    with pytest.raises(AsrError, match=key.rpartition(".")[2]):
        settings(key, value)


@pytest.mark.parametrize("key", LISTS)
@pytest.mark.parametrize("value", ["[.inf, .nan]", "[100000000, 100000000]", "[-1, 100000000]"])
def test_lists_of_numbers_have_bounds_too(key, value):
    value = f"[{value}, {value}]" if key in ("model.conv_kernels", "model.conv_strides") else value
    with pytest.raises(AsrError, match=key):
        settings(key, value)


@pytest.mark.parametrize("field", ["gain_decibels", "time_masks"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0, 1e8])
def test_settings_made_in_python_have_the_same_bounds(field, value):
    augment = Run().augment
    with pytest.raises(AsrError, match=f"augment.{field}={value}"):
        dataclasses.replace(augment, **{field: value})


@pytest.mark.parametrize(
    ("kind", "name", "more"), OPTION_FIELDS, ids=[f"{k.__name__}.{n}" for k, n, _ in OPTION_FIELDS]
)
@given(value=st.one_of(st.floats(), st.sampled_from([1e8, 1e300, -1.0, 0.0, 1e9])))
def test_options_are_refused_by_their_name_or_are_numbers_in_reach(kind, name, more, value):
    hints = typing.get_type_hints(kind)
    if hints[name] is int:
        value = int(value) if abs(value) < 1e300 else 10**20
    try:
        made: Any = kind(**more | {name: value})
    except AsrError as error:
        found = str(error)
    else:
        found = repr(getattr(made, name))
    unlimited = name.endswith("_threshold") or name == "unknown_score"
    assert name in found or abs(float(found)) <= 1e9 or unlimited


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0, -1.0])
def test_a_speed_that_is_none_is_refused(value):
    with pytest.raises(AsrError, match=f"speed={value}"):
        Criteria(16000, lambda samples: samples, lambda frames: frames, speed=value)


@pytest.mark.parametrize("size", [10**6 + 1, 10**8, 10**20])
def test_more_tokens_than_any_tokenizer_has_are_refused(size, tmp_path):
    with pytest.raises(AsrError, match=f"tokenizer: {size} tokens are too many"):
        train_sentencepiece(["A B C"], size, tmp_path / "t.model")


@pytest.mark.parametrize("change", [{"hidden": 10**5}, {"layers": 1000, "hidden": 10**4},
                                    {"conv_channels": [10**5, 10**5]}])  # fmt: skip
def test_a_network_larger_than_the_memory_is_refused_before_it_is_made(change):
    with pytest.raises(AsrError, match=r"parameters need [\d,]+ GiB"):
        build_model(dataclasses.replace(Run(), model=dataclasses.replace(Model(), **change)))
