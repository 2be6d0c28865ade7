"""Which backend runs a model file, equal results of both, and their requirements."""

import builtins
import doctest
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import soundfile
import torch
from command_line import run_asr
from tone_network import RATE, save_tone_model, speak

from asr import audio
from asr.corpus.manifest import read_manifest
from asr.errors import AsrError
from asr.evaluate.dataset import evaluate_to
from asr.features.settings import Frontend
from asr.model import backend as module
from asr.model.backend import BackendName, NativeBackend, TorchBackend, open_backend
from asr.model.dimensions import Model
from asr.model.info import describe
from asr.model.metadata import Metadata
from asr.model.native_kernels import kernels
from asr.model.pack import pack
from asr.model.torch_network import DeepSpeech
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


def test_a_dense_file_gives_the_same_text_on_both(tmp_path: Path) -> None:
    dense = save_tone_model(tmp_path / "tone.asr")
    pack(dense, tmp_path / "packed.asr")
    for path in (dense, tmp_path / "packed.asr"):
        for backend in ("torch", "native"):
            [transcript] = load(path, backend=backend).transcribe(speak("FEED A BEE"))
            assert transcript.text == "FEED A BEE"


def test_the_trained_network_gives_the_same_text_on_both(trained: Path, sounds: list[str]) -> None:
    expected = [t.text for t in load(trained, backend="torch").transcribe(sounds)]
    assert sum(map(bool, expected)) > 0.9 * len(expected)
    exact = load(trained, threads=2, backend="native", exact=True)
    assert [t.text for t in exact.transcribe(sounds)] == expected
    rounded = [t.text for t in load(trained, backend="native").transcribe(sounds)]
    words = [
        zip(a.split(), b.split(), strict=False) for a, b in zip(expected, rounded, strict=True)
    ]
    differing = sum(a != b for pairs in words for a, b in pairs)
    assert differing <= 0.01 * sum(len(text.split()) for text in expected)


def test_log_probabilities_of_recordings_are_torch_s(trained: Path, sounds: list[str]) -> None:
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
        ({"device": "tpu"}, "device='tpu': cpu, cuda or auto"),
        ({"threads": 0}, "threads=0: at least 1"),
        ({}, "any.asr: there is no such model file"),
        ({"backend": "native"}, "any.asr: there is no such model file"),
    ],
)
def test_options_that_cannot_be_met_are_refused(options: dict, fragment: str) -> None:
    with pytest.raises(AsrError, match=fragment):
        open_backend("any.asr", **options)


def test_a_file_whose_tokenizer_does_not_fit_is_refused_by_both(
    trained: Path, tmp_path: Path
) -> None:
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
    with pytest.raises(AsrError, match=r"else\.asr: holds tensors, but not a model of asr"):
        open_backend(tmp_path / "else.asr")


def test_a_model_file_is_opened_once(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dense = save_tone_model(tmp_path / "tone.asr")
    opened: list[str] = []
    real = builtins.open

    def counting(file: Any, *arguments: Any, **options: Any) -> Any:
        opened.append(str(file))
        return real(file, *arguments, **options)

    monkeypatch.setattr(builtins, "open", counting)
    for path in (trained, dense):
        for backend in get_args(BackendName):
            opened.clear()
            open_backend(path, backend=backend)
            assert opened.count(str(path)) == 1


def test_utterances_in_a_batch_get_the_same_result_as_one_by_one(trained: Path) -> None:
    rows = [np.random.default_rng(n).standard_normal((n, 80), np.float32) for n in (1, 90, 41)]
    for backend in (open_backend(trained, exact=True), open_backend(trained, backend="torch")):
        for row, together in zip(rows, backend.log_probs(rows), strict=True):
            [alone] = backend.log_probs([row])
            assert alone.shape == (backend.dimensions.output_length(len(row)), 29)
            np.testing.assert_allclose(together, alone, atol=1e-4, rtol=0)
        [nothing] = backend.log_probs([np.zeros((0, 80), np.float32)])
        assert nothing.shape == (0, 29)


def test_the_example_in_the_docstring_runs(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(trained, "model.asr")
    found = doctest.testmod(module, extraglobs={"samples": np.zeros(16000, np.float32)})
    assert found.attempted
    assert not found.failed


def test_an_output_frame_lasts_the_stride_of_the_network(trained: Path) -> None:
    for backend in ("native", "torch"):
        assert open_backend(trained, backend=backend).frame_seconds == pytest.approx(0.04)


def test_without_a_cuda_device_cuda_is_refused_and_auto_is_the_cpu(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    dense = save_tone_model(tmp_path / "tone.asr")
    with pytest.raises(AsrError, match=r"device=cuda: torch .* finds no CUDA device; use device="):
        open_backend(dense, device="cuda")
    backend = open_backend(dense, device="auto")
    assert isinstance(backend, TorchBackend)
    assert backend.device == "cpu"
    assert backend.describe().endswith(", fp32")


def test_a_dense_network_runs_on_a_cuda_device_if_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Checks possible on a CPU: the device of the network, TF32 off, the description."""
    moved: list[str] = []
    tf32: list[bool] = []

    def to(network: DeepSpeech, device: str) -> DeepSpeech:
        moved.append(device)
        network.register_forward_hook(lambda *_: tf32.append(torch.backends.cudnn.allow_tf32))
        return network

    dense = save_tone_model(tmp_path / "tone.asr")
    expected = open_backend(dense).log_probs([np.ones((20, 80), np.float32)])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H100")
    monkeypatch.setattr(DeepSpeech, "to", to)
    monkeypatch.setattr(torch.Tensor, "to", lambda tensor, device: tensor)
    for device in ("cuda", "auto"):
        backend = open_backend(dense, device=device)
        assert isinstance(backend, TorchBackend)
        assert backend.device == "cuda"
        assert backend.describe().endswith(", fp32, NVIDIA H100")
        [found] = backend.log_probs([np.ones((20, 80), np.float32)])
        np.testing.assert_array_equal(found, expected[0])
    assert moved == ["cuda", "cuda"]
    assert tf32 == [False, False]
    assert torch.backends.cudnn.allow_tf32


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_log_probabilities_on_a_cuda_device_are_those_of_the_cpu(trained: Path) -> None:
    rows = [np.random.default_rng(n).standard_normal((n, 80), np.float32) for n in (90, 41)]
    on_cpu = open_backend(trained, backend="torch").log_probs(rows)
    on_cuda = open_backend(trained, backend="torch", device="cuda").log_probs(rows)
    for ours, theirs in zip(on_cuda, on_cpu, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-3, rtol=0)


def test_a_packed_file_runs_on_torch_sparse_on_a_cuda_device(
    trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Checked on a CPU that is taken for the CUDA device: the layers and what they compute."""
    rows = [np.random.default_rng(n).standard_normal((n, 80), np.float32) for n in (90, 41)]
    expected = open_backend(trained, backend="torch").log_probs(rows)
    monkeypatch.setattr("asr.model.backend._torch_device", lambda device: "cpu")
    opened = open_backend(trained, device="cuda")
    assert isinstance(opened, TorchBackend)
    kinds = [type(layer).__name__ for layer in opened._model.rnn]
    assert set(kinds) == {"CsrRecurrentLayer"}
    assert ", torch.sparse" in opened.describe()
    for ours, theirs in zip(opened.log_probs(rows), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-3, rtol=0)


def test_what_runs_on_the_cpu_alone_refuses_another_device(trained: Path, tmp_path: Path) -> None:
    dense = save_tone_model(tmp_path / "tone.asr")
    for file in (dense, trained):
        with pytest.raises(AsrError, match="device=cuda: backend=native runs on the CPU"):
            open_backend(file, backend="native", device="cuda")
    assert isinstance(open_backend(trained, device="auto"), NativeBackend)


def test_the_backend_is_named_in_evaluations(trained: Path, corpus: Path) -> None:
    source = str(corpus / "test.jsonl")
    printed = {
        (backend, exact): evaluate_to(trained, source, backend=backend, exact=exact).splitlines()[3]
        for backend, exact in (("torch", False), ("auto", False), ("native", True))
    }
    assert printed["torch", False].startswith("backend torch ")
    assert printed["auto", False].startswith("backend native (")
    assert printed["native", True].endswith(", exact")
    assert ("(C library, " in printed["auto", False]) == (library() is not None)


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
    printed = " ".join(run_asr("info", trained).stdout.split())
    if level and library():
        assert "backend native, C library, plain" in printed
        assert "recurrent weights: csr" in printed
    else:
        assert "backend native, numpy alone, slow" in printed
        assert "recurrent weights: numpy" in printed


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
def test_memory_of_a_minute_of_audio_is_bounded(tmp_path: Path) -> None:
    path = save_random(tmp_path / "large.asr", Model(hidden=512, layers=3))
    minute = 0.1 * np.random.default_rng(0).standard_normal(60 * RATE)
    soundfile.write(tmp_path / "minute.wav", minute, RATE)
    code = (
        "from asr.transcribe.recogniser import load\n"
        f"[found] = load({str(path)!r}).transcribe({str(tmp_path / 'minute.wav')!r})\n"
        "assert found.seconds == 60\n"
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
