"""A recogniser is pickled by its file, copied without one, and works alike in every process."""

import copy
import multiprocessing
import pickle
import shutil
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from model_files import network, save
from tone_network import save_tone_model, speak

from asr.decode import DecoderOptions
from asr.errors import AsrError
from asr.model.backend import TorchBackend
from asr.model.file import load_model
from asr.model.pack import pack
from asr.transcribe.options import TranscribeOptions
from asr.transcribe.recogniser import Recogniser, load

KINDS = {
    "torch": {"backend": "torch", "threads": 1},
    "native": {"backend": "native"},
    "native and exact": {"backend": "native", "exact": True, "threads": 1},
    "packed": {},
    "beam search": {"decoding": DecoderOptions("beam", beam=8, phrases=("BAD",))},
}
WAYS: dict[str, Callable[[Recogniser], Recogniser]] = {
    "pickle": lambda recogniser: pickle.loads(pickle.dumps(recogniser)),
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tone_model(tmp_path_factory.mktemp("model") / "tone.asr")


def made(kind: str, model: Path) -> Recogniser:
    if kind == "packed":
        packed = model.with_name("packed.asr")
        pack(model, packed)
        model = packed
    return load(model, **KINDS[kind])  # type: ignore[arg-type]


def text_of(recogniser: Recogniser) -> str:
    [transcript] = recogniser.transcribe(speak("BAD CAFE"))
    return transcript.text


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_of_a_recogniser_transcribes_as_the_original(
    kind: str, way: str, model: Path
) -> None:
    recogniser = made(kind, model)
    expected = recogniser.log_probs(speak("BAD CAFE"))
    again = WAYS[way](recogniser)
    assert again is not recogniser
    assert type(again.backend) is type(recogniser.backend)
    assert again.describe() == recogniser.describe()
    assert (again.decoding, again.calibration, again.name, again.tokenizer) == (
        recogniser.decoding,
        recogniser.calibration,
        recogniser.name,
        recogniser.tokenizer,
    )
    np.testing.assert_array_equal(again.log_probs(speak("BAD CAFE")), expected)
    assert text_of(again) == text_of(recogniser) == "BAD CAFE"


def test_the_recogniser_of_the_package_is_pickled_with_its_language_model() -> None:
    recogniser = load()
    again = pickle.loads(pickle.dumps(recogniser))
    assert again.decoding == recogniser.decoding
    assert again.decoding.lm
    assert again.describe() == recogniser.describe()
    [transcript] = again.transcribe(np.zeros(16_000, np.float32))
    assert transcript.error is None


def test_a_pickle_is_small_whatever_the_network(model: Path) -> None:
    assert len(pickle.dumps(load(model))) < 2000
    assert len(pickle.dumps(load())) < 20_000


def test_processes_that_are_started_anew_share_the_work(model: Path) -> None:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        recogniser = load(model, threads=1, backend="native")
        found = list(pool.map(text_of, [recogniser] * 3))
    assert found == ["BAD CAFE"] * 3


def test_a_recogniser_is_pickled_by_the_absolute_name_of_its_file(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(model.parent)
    pickled = pickle.dumps(load(model.name))
    monkeypatch.chdir(tmp_path)
    assert text_of(pickle.loads(pickled)) == "BAD CAFE"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (Path.unlink, "tone.asr: there is no such model file"),
        (
            lambda path: save(path, network()),
            "tone.asr: is not the file that this recogniser was made",
        ),
        (lambda path: path.write_bytes(b""), r"tone.asr: is not a model file of asr \(it is empty"),
        (lambda path: path.write_bytes(path.read_bytes()[:30]), "tone.asr: the file is truncated"),
        (lambda path: path.write_bytes(path.read_bytes()[:-9]), "tone.asr: the file is truncated"),
    ],
)
def test_a_pickle_whose_file_is_gone_or_another_is_refused(
    change: Callable[[Path], object], message: str, model: Path, tmp_path: Path
) -> None:
    path = tmp_path / "tone.asr"
    shutil.copy(model, path)
    recogniser = load(path)
    pickled = pickle.dumps(recogniser)
    change(path)
    with pytest.raises(AsrError, match=message):
        pickle.loads(pickled)
    assert text_of(copy.deepcopy(recogniser)) == "BAD CAFE"


def test_a_network_in_memory_is_copied_but_not_pickled(model: Path) -> None:
    backend = TorchBackend(load_model(model))
    recogniser = Recogniser(backend, backend.tokenizer)
    assert text_of(copy.deepcopy(recogniser)) == "BAD CAFE"
    with pytest.raises(AsrError, match=r"cannot be pickled: save the network to a file and use"):
        pickle.dumps(recogniser)


def test_a_copy_has_decoders_of_its_own(model: Path) -> None:
    recogniser = load(model)
    beam = TranscribeOptions(DecoderOptions("beam", beam=4))
    list(recogniser.transcribe(speak("A"), beam))
    again = copy.deepcopy(recogniser)
    assert again.decoder(beam.decoding) is not recogniser.decoder(beam.decoding)
