"""Which engine hears a model file, that both hear the same, and what the native one needs."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from process import run_asr
from tone_network import RATE, save_tone_model, speak

from asr import audio
from asr.corpus.manifest import read_manifest
from asr.errors import AsrError
from asr.evaluate.dataset import evaluate_to
from asr.features.settings import Frontend
from asr.model.backend import NativeBackend, TorchBackend, open_backend
from asr.model.dimensions import Model
from asr.model.info import describe
from asr.model.metadata import Metadata
from asr.model.native_kernels import kernels
from asr.model.pack import pack
from asr.sparse import read, write
from asr.sparse.kernels import library
from asr.text.normalise import normalise
from asr.text.tokenizer import CharacterTokenizer
from asr.transcribe.recogniser import load


@pytest.fixture(scope="module")
def sounds(corpus: Path) -> list[str]:
    """Recordings of held-out voices."""
    return [u.audio_filepath for u in read_manifest(corpus / "test.jsonl")]


def test_packed_files_run_natively_and_dense_ones_on_torch(trained: Path, tmp_path: Path) -> None:
    dense = save_tone_model(tmp_path / "tone.asr")
    assert isinstance(open_backend(trained), NativeBackend)
    assert isinstance(open_backend(dense), TorchBackend)
    assert isinstance(open_backend(trained, backend="torch"), TorchBackend)
    assert isinstance(open_backend(dense, backend="native"), NativeBackend)


def test_a_dense_file_sounds_the_same_on_both(tmp_path: Path) -> None:
    dense = save_tone_model(tmp_path / "tone.asr")
    pack(dense, tmp_path / "packed.asr")
    for path in (dense, tmp_path / "packed.asr"):
        for backend in ("torch", "native"):
            [heard] = load(path, backend=backend).transcribe(speak("FEED A BEE"))
            assert heard.text == "FEED A BEE"


def test_the_trained_network_hears_the_same_text_on_both(trained: Path, sounds: list[str]) -> None:
    expected = [t.text for t in load(trained, backend="torch").transcribe(sounds)]
    assert sum(map(bool, expected)) > 0.9 * len(expected)
    exact = load(trained, threads=2, backend="native", exact=True)
    assert [t.text for t in exact.transcribe(sounds)] == expected
    quick = [t.text for t in load(trained, backend="native").transcribe(sounds)]
    words = [zip(a.split(), b.split(), strict=False) for a, b in zip(expected, quick, strict=True)]
    differing = sum(a != b for pairs in words for a, b in pairs)
    assert differing <= 0.01 * sum(len(text.split()) for text in expected)


def test_log_probabilities_of_sound_are_torch_s(trained: Path, sounds: list[str]) -> None:
    torch_, native = open_backend(trained, backend="torch"), open_backend(trained, exact=True)
    samples = [audio.load(path).samples for path in sounds[:4]]
    rows = [native.features(s) for s in samples]
    for ours, theirs in zip(rows, map(torch_.features, samples), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=3e-4, rtol=0)  # where torch rounds most
        assert np.abs(ours - theirs).mean() < 1e-5
    for ours, theirs in zip(native.log_probs(rows), torch_.log_probs(rows), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-3, rtol=0)


def test_words_have_the_same_times_and_confidence_on_both(trained: Path, sounds: list[str]) -> None:
    [ours] = load(trained, exact=True).transcribe(sounds[0])
    [theirs] = load(trained, backend="torch").transcribe(sounds[0])
    assert ours.words
    for word, other in zip(ours.words, theirs.words, strict=True):
        assert (word.text, word.start, word.end) == (other.text, other.start, other.end)
        assert word.confidence == pytest.approx(other.confidence, abs=1e-3)


@pytest.mark.parametrize(
    ("options", "fragment"),
    [
        ({"backend": "cuda"}, "backend='cuda': auto, torch or native"),
        ({"threads": 0}, "threads=0: at least 1"),
        ({}, "any.asr: there is no such model file"),
        ({"backend": "native"}, "any.asr: there is no such model file"),
    ],
)
def test_what_cannot_be_is_refused(options: dict, fragment: str) -> None:
    with pytest.raises(AsrError, match=fragment):
        open_backend("any.asr", **options)


def test_a_file_whose_units_do_not_fit_is_refused_by_both(trained: Path, tmp_path: Path) -> None:
    tensors, plain = read(trained)
    plain["model"]["outputs"] = 5
    write(tmp_path / "odd.asr", tensors, plain, "fp16")
    for backend in ("native", "torch"):
        with pytest.raises(
            AsrError, match=r"odd\.asr: its tokenizer has 29 tokens, its network 5 outputs"
        ):
            open_backend(tmp_path / "odd.asr", backend=backend)


def test_a_packed_file_of_something_else_is_refused_by_name(tmp_path: Path) -> None:
    write(tmp_path / "else.asr", {"a": np.ones((2, 2), np.float32)}, {"kind": "other"})
    with pytest.raises(AsrError, match=r"else\.asr: holds tensors, but no model of asr"):
        open_backend(tmp_path / "else.asr")


def test_the_engine_is_named_in_records(trained: Path, corpus: Path) -> None:
    source = str(corpus / "test.jsonl")
    said = {
        (backend, exact): evaluate_to(trained, source, backend=backend, exact=exact).splitlines()[3]
        for backend, exact in (("torch", False), ("auto", False), ("native", True))
    }
    assert said["torch", False].startswith("backend torch ")
    assert said["auto", False].startswith("backend native (")
    assert said["native", True].endswith(", exact")
    assert ("(C library, " in said["auto", False]) == (library() is not None)


def test_info_names_library_instruction_set_and_kernels(trained: Path, tmp_path: Path) -> None:
    backend = open_backend(trained)
    assert kernels(describe(trained).tensors) == backend.network.describe()
    assert kernels(describe(trained).tensors, exact=True) == (
        open_backend(trained, exact=True).network.describe()
    )
    text = " ".join(describe(trained).table().split())
    assert "backend native, " in text
    for kernel in set(backend.network.describe().values()):
        assert kernel in text
    assert "torch; native where" in describe(save_tone_model(tmp_path / "tone.asr")).table()


@pytest.mark.parametrize("level", ["plain", None])
def test_forced_instruction_sets_and_the_missing_library_are_named(
    trained: Path, level: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ASR_LEVEL", raising=False)
    if not level:
        monkeypatch.setenv("ASR_NATIVE", "0")
    elif library():
        monkeypatch.setenv("ASR_LEVEL", level)
    shown = " ".join(run_asr("info", trained).stdout.split())
    if level and library():
        assert "backend native, C library, plain" in shown
        assert "recurrent weights: csr" in shown
    else:
        assert "backend native, numpy alone, slow" in shown
        assert "recurrent weights: numpy" in shown


def test_transcribing_a_packed_file_loads_no_torch(trained: Path, sounds: list[str]) -> None:
    [expected] = load(trained).transcribe(sounds[0])
    code = (
        "import sys\n"
        f"sys.argv = ['asr', 'transcribe', {sounds[0]!r}, '-m', {str(trained)!r}]\n"
        "from asr.cli.main import main\n"
        "try: main()\n"
        "except SystemExit as done: assert not done.code\n"
        "found = {name.split('.')[0] for name in sys.modules}\n"
        "print(found & {'torch', 'torchaudio', 'lightning', 'jiwer', 'yaml', 'matplotlib'})"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines() == [expected.text, "set()"]


def test_texts_without_the_c_library_are_the_same(
    trained: Path, sounds: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    [expected] = load(trained, exact=True).transcribe(sounds[0])
    assert normalise(expected.text)
    monkeypatch.setenv("ASR_NATIVE", "0")
    run = run_asr("transcribe", sounds[0], "-m", trained)
    assert run.stdout.strip() == expected.text, run.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_of_a_minute_of_sound_is_bounded(tmp_path: Path) -> None:
    path = save_random(tmp_path / "large.asr", Model(hidden=512, layers=3))
    minute = 0.1 * np.random.default_rng(0).standard_normal(60 * RATE)
    soundfile.write(tmp_path / "minute.wav", minute, RATE)
    code = (
        "from asr.transcribe.recogniser import load\n"
        f"[heard] = load({str(path)!r}).transcribe({str(tmp_path / 'minute.wav')!r})\n"
        "assert heard.seconds == 60\n"
        "print(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])"
    )
    # Not ru_maxrss: a child inherits that of the process that it was forked from.
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 30 < int(run.stdout) / 1024 < 150


def save_random(path: Path, dimensions: Model) -> Path:
    """A packed network of random weights, nine tenths of the recurrent ones zero."""
    from asr.model.shapes import parameter_shapes, statistics_shapes

    random = np.random.default_rng(0)
    tensors = {}
    for name, shape in (parameter_shapes(dimensions) | statistics_shapes(dimensions)).items():
        tensor = 0.05 * random.standard_normal(shape, dtype=np.float32)
        if name.startswith("rnn") and len(shape) == 2:
            tensor[random.random(shape, dtype=np.float32) < 0.9] = 0
        tensors[name] = np.abs(tensor) + 1 if name.endswith("running_var") else tensor
    tokenizer = CharacterTokenizer()
    metadata = Metadata(dimensions, Frontend(), tokenizer.to_plain(), packed="fp16")
    write(path, tensors, metadata.to_plain(), "fp16")
    return path
