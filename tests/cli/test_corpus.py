"""`asr corpus` and `asr check` on the command line: output, files, status."""

import shutil
import subprocess
import sys
from pathlib import Path

import mini_librispeech as mini
import numpy as np
import pytest
import soundfile
from command_line import run_asr

from asr.corpus.manifest import read_manifest
from asr.features.settings import Frontend
from asr.model.dimensions import Model
from asr.model.file import save_model
from asr.model.torch_network import DeepSpeech
from asr.text.tokenizer import CharacterTokenizer, train_sentencepiece


def test_parts_that_are_there_are_listed_without_a_network(tmp_path):
    """The miniature is not the official archive, and the command says so first."""
    mini.write(tmp_path)
    asked = ("corpus", "librispeech", tmp_path / "libri", "--parts", "dev-clean")
    done = run_asr(*asked, "--mirror", tmp_path)
    assert done.returncode == 2
    assert "published are 337,926,286; remove it" in done.stderr
    assert not (tmp_path / "libri" / "dev-clean").exists()
    done = run_asr(*asked[:-1], "dev-claen")
    assert (done.returncode, done.stdout) == (2, "")
    assert "did you mean dev-clean?" in done.stderr


def test_the_commands_that_list_what_is_there_write_manifests(tmp_path):
    for name in ("wavs/1.wav", "wavs/2.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        soundfile.write(tmp_path / name, np.zeros(8000), 16000)
    (tmp_path / "metadata.csv").write_text("1|one\n2|two\n")
    done = run_asr("corpus", "ljspeech", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "metadata.jsonl: 2 utterances, 0.00 hours" in done.stdout
    (tmp_path / "metadata.jsonl").rename(tmp_path / "first.txt")
    done = run_asr("corpus", "folder", tmp_path, "-o", tmp_path / "second.jsonl")
    assert done.returncode == 0
    assert (tmp_path / "second.jsonl").read_text() == (tmp_path / "first.txt").read_text()
    done = run_asr("corpus", "common-voice", tmp_path)
    assert done.returncode == 2
    assert "not a release of Common Voice" in done.stderr


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network that outputs a frame every 160 ms, from recordings of 8000 Hz."""
    path = tmp_path_factory.mktemp("model") / "coarse.asr"
    size = Model(hidden=8, layers=1, conv_channels=[2, 2], conv_strides=[[2, 4], [2, 4]])
    save_model(
        path, DeepSpeech(size), CharacterTokenizer(), Frontend(sample_rate=8000, high_hertz=3800)
    )
    return path


def test_the_check_knows_the_rate_and_the_stride_of_the_model(model, tmp_path):
    draw = np.random.default_rng(0)
    soundfile.write(tmp_path / "a.wav", draw.normal(0, 0.1, 32000), 16000)
    (tmp_path / "a.txt").write_text("Too long for this network.")
    plain = run_asr("check", tmp_path)
    assert plain.returncode == 0, plain.stderr
    assert "16000 Hz: 1 utterances; the rate of the network" in plain.stdout
    assert "1 utterances checked, no problems" in plain.stdout
    coarse = run_asr("check", tmp_path, "--model", model)
    assert coarse.returncode == 2
    assert "16000 Hz: 1 utterances; resampled to 8000 Hz" in coarse.stdout
    assert "cannot_align" in coarse.stdout
    assert "a: 25 tokens and 1 repeats need 26 output frames; 2.00 s at speed 1.1 give 12" in (
        coarse.stdout
    )
    assert "--exclude-to FILE" in coarse.stderr


def test_the_check_takes_the_stride_of_the_model_and_another_tokenizer(model, tmp_path):
    """As for a new output layer."""
    draw = np.random.default_rng(0)
    soundfile.write(tmp_path / "a.wav", draw.normal(0, 0.1, 32000), 16000)
    text = "long long long long long"
    (tmp_path / "a.txt").write_text(text)
    texts = [*[text.upper()] * 9, "PACK MY BOX WITH FIVE DOZEN LIQUOR JUGS"]
    train_sentencepiece(texts, 40, tmp_path / "tokens.model")
    words = ("check", tmp_path, "--model", model)
    assert "24 tokens and 0 repeats need 24 output frames" in run_asr(*words).stdout
    both = run_asr(*words, "--tokenizer", tmp_path / "tokens.model")
    assert both.returncode == 0, both.stdout


def test_the_check_writes_what_can_be_used(trained, corpus, tmp_path):
    rows = read_manifest(corpus / "test.jsonl")[:3]
    folder = tmp_path / "own"
    folder.mkdir()
    for row, text in zip(rows, (rows[0].text, "Route 66", "Ünïcode … ok"), strict=True):
        shutil.copy(row.audio_filepath, folder / f"{row.id}.flac")
        (folder / f"{row.id}.txt").write_text(text)
    done = run_asr("check", folder, "--model", trained, "--exclude-to", tmp_path / "ok.jsonl")
    assert done.returncode == 0, done.stderr
    assert "write numbers as they are said" in done.stdout
    kept = read_manifest(tmp_path / "ok.jsonl")
    assert [u.id for u in kept] == [rows[0].id, rows[2].id]
    assert kept[0].duration == rows[0].duration


@pytest.mark.parametrize(
    ("package", "words", "extra"),
    [
        ("requests", ["librispeech", "libri", "--parts", "dev-clean"], ".[download]"),
        ("lhotse", ["import", "cuts.jsonl", "-o", "m.jsonl"], ".[corpora]"),
    ],
)
def test_a_missing_package_names_the_extra(package, words, extra, tmp_path):
    (tmp_path / "cuts.jsonl").write_text("{}\n")
    code = (
        f"import sys; sys.modules[{package!r}] = None; "
        f"sys.argv = ['asr', 'corpus', *{words!r}]; from asr.cli.main import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 2
    assert f"this needs the package {package}: pip install '{extra}'" in done.stderr
