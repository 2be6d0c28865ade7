"""The command line: messages, exit codes, options, and what it imports."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import typer
from rich.markup import escape

from asr.audio.chunk import ChunkOptions
from asr.cli import main as cli
from asr.cli import options as cli_options
from asr.cli import speech as cli_speech
from asr.decode import DecoderOptions
from asr.features.settings import Frontend
from asr.model.dimensions import Model
from asr.model.file import save_model
from asr.model.torch_network import DeepSpeech
from asr.plain import meanings
from asr.pretrained import registry
from asr.text.tokenizer import CharacterTokenizer
from asr.transcribe.formats import WRITERS
from asr.transcribe.options import TranscribeOptions
from asr.transcribe.subtitles import SubtitleOptions


@pytest.fixture
def asr(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Run `asr WORDS...` in this process: (status, standard output, standard error)."""

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["asr", *map(str, words)])
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        out, err = capsys.readouterr()
        return int(exit_.value.code or 0), out, err

    return run


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of files that a user might pass by mistake, and one valid model."""
    folder = tmp_path_factory.mktemp("files")
    model = DeepSpeech(Model(hidden=8, layers=1, conv_channels=[2, 2]))
    save_model(folder / "model.asr", model, CharacterTokenizer(), Frontend())
    content = (folder / "model.asr").read_bytes()
    (folder / "short.asr").write_bytes(content[: len(content) // 2])
    flipped = bytearray(content)
    flipped[-100] ^= 1
    (folder / "flipped.asr").write_bytes(flipped)
    (folder / "words.asr").write_text("not a model")

    speech = np.random.default_rng(1).normal(0, 0.1, 16000).astype(np.float32)
    soundfile.write(folder / "good.flac", speech, 16000)
    flac = (folder / "good.flac").read_bytes()
    (folder / "truncated.flac").write_bytes(flac[: len(flac) // 2])
    soundfile.write(folder / "empty.wav", np.zeros(0, np.float32), 16000)
    (folder / "no-audio").mkdir()
    (folder / "no-audio" / "notes.txt").write_text("hello")
    good = '{"audio_filepath": "good.flac", "duration": 1.0, "text": "hello"}\n'
    (folder / "bad.jsonl").write_text(good + "{not json\n")
    (folder / "digits.jsonl").write_text(good.replace("hello", "room 7"))
    (folder / "tokenizer.model").write_text("not sentencepiece")
    return folder


@pytest.mark.parametrize(
    ("words", "fragments"),
    [
        ("transcribe missing.wav -m model.asr", ["missing.wav"]),
        ("transcribe no-audio -m model.asr", ["no-audio", "flac"]),
        ("transcribe truncated.flac -m model.asr", ["truncated.flac"]),
        ("transcribe empty.wav -m model.asr", ["empty.wav"]),
        ("transcribe good.flac -m missing.asr", ["missing.asr"]),
        ("transcribe good.flac -m words.asr", ["words.asr", "model file"]),
        ("transcribe good.flac -m short.asr", ["short.asr", "truncated", "again"]),
        ("transcribe good.flac -m flipped.asr", ["flipped.asr", "again"]),
        ("transcribe good.flac -m model.asr -f docx -o out", ["docx", "json", "txt"]),
        ("transcribe good.flac -m model.asr --nbest 3", ["nbest", "decoder=beam"]),
        ("transcribe good.flac -m model.asr --phrase Anna", ["phrases", "decoder=beam"]),
        ("transcribe good.flac -m model.asr --lm no.arpa", ["lm", "decoder=beam"]),
        ("transcribe good.flac -m model.asr --decoder beam --lm no.arpa", ["no.arpa"]),
        ("transcribe good.flac -m model.asr --decoder beam --lm-weight 1", ["lm=FILE"]),
        ("transcribe good.flac -m model.asr --decoder beam --nbest 3", ["json"]),
        ("transcribe good.flac -m model.asr --decoder best", ["best", "greedy", "beam"]),
        ("transcribe good.flac -m model.asr --lines 1", ["srt", "vtt"]),
        ("transcribe good.flac -m model.asr -f srt --line-length 2", ["line_length=2"]),
        ("transcribe good.flac -m model.asr --chunk-seconds 0.1", ["chunk_seconds=0.1"]),
        ("transcribe good.flac -m model.asr --overwrite", ["overwrite", "-o"]),
        ("transcribe good.flac -m model.asr --batch-seconds 0", ["batch_seconds=0"]),
        ("transcribe digits.jsonl -m model.asr", ["digits.jsonl", "--shard 1/1"]),
        ("transcribe good.flac -m model.asr --shard 1/2", ["shards", "-o"]),
        ("transcribe good.flac -m model.asr --shard 3/2 -o out", ["3/2", "from 1 to 2"]),
        ("transcribe good.flac -m model.asr --result parquet -o out", ["--shard"]),
        ("transcribe good.flac -m model.asr --shard 1/1 -o out --overwrite", ["delete"]),
        ("transcribe good.flac -m model.asr --shard 1/1 -o out -f json", ["json", "rows"]),
        ("transcribe - -m model.asr --shard 1/1 -o out", ["standard input", "list"]),
        ("transcribe good.flac -m words.asr --shard 1/1 -o out", ["words.asr", "model file"]),
        ("align good.flac words.asr -m missing.asr", ["missing.asr"]),
        ("align good.flac 5 -m model.asr", ["'5'"]),
        ("evaluate model.asr digits.jsonl --decoder beam --nbest 2", ["--nbest"]),
        ("compare model.asr model.asr", ["model.asr", "manifest"]),
        ("compare model.asr missing.txt digits.jsonl", ["missing.txt"]),
        ("calibrate model.asr missing.jsonl", ["missing.jsonl"]),
        ("lm train missing.txt -o x.arpa", ["missing.txt"]),
        ("lm info words.asr", ["words.asr"]),
        ("lm tune model.asr digits.jsonl --lm missing.arpa", ["missing.arpa"]),
        ("info words.asr", ["words.asr"]),
        ("info good.flac", ["good.flac"]),
        ("pack short.asr -o x.asr", ["short.asr"]),
        ("evaluate model.asr bad.jsonl", ["bad.jsonl:2"]),
        ("evaluate model.asr missing.jsonl", ["missing.jsonl"]),
        ("check bad.jsonl", ["bad.jsonl:2"]),
        ("check digits.jsonl", ["problem", "--exclude-to"]),
        ("check digits.jsonl --tokenizer tokenizer.model", ["tokenizer.model"]),
        ("corpus folder no-audio -o x.jsonl", ["no-audio"]),
        ("corpus folder missing -o x.jsonl", ["missing"]),
        ("tokenizer train missing.txt -o x.model", ["missing.txt"]),
        ("train missing.yaml", ["missing.yaml"]),
        ("report no-audio -o out", ["no-audio"]),
    ],
)
def test_a_mistake_is_a_message_and_a_status_without_a_traceback(
    asr, files: Path, monkeypatch: pytest.MonkeyPatch, words: str, fragments: list[str]
) -> None:
    monkeypatch.chdir(files)
    status, out, err = asr(*words.split())
    printed = " ".join((out + err).split())
    assert status in (1, 2)
    assert "Traceback" not in printed
    for fragment in fragments:
        assert fragment in printed
    assert not (files / "x.asr").exists()
    assert not (files / "x.jsonl").exists()


def test_a_misspelt_setting_names_the_nearest_key(asr, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("name: x\n")
    status, _, err = asr("train", tmp_path / "r.yaml", "model.hiden=64")
    assert status == 2
    assert "Did you mean: 'hidden'" in err


def test_all_settings_can_be_listed(asr, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("name: x\n")
    status, out, _ = asr("train", tmp_path / "r.yaml", "model.hidden=77", "--settings")
    assert status == 0
    assert "model.hidden" in out
    assert "77" in out


def test_info_shows_dimensions_and_non_zeros(asr, files: Path) -> None:
    status, out, _ = asr("info", files / "model.asr")
    assert status == 0
    assert "rnn.0.forward_cell.weight_hh_l0" in out
    assert f"{(files / 'model.asr').stat().st_size:,}" in out


def test_pack_writes_a_file_that_info_reads(asr, files: Path, tmp_path: Path) -> None:
    assert asr("pack", files / "model.asr", "-o", tmp_path / "p.asr", "--values", "fp32")[0] == 0
    status, out, _ = asr("info", tmp_path / "p.asr")
    assert status == 0
    assert "packed" in out


def test_a_missing_package_names_the_extra(files: Path) -> None:
    code = f"""import sys
sys.modules["torch"] = None
sys.argv = ["asr", "transcribe", {str(files / "good.flac")!r}, "-m", {str(files / "model.asr")!r},
    "--backend", "torch"]
from asr.cli.main import main
main()"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 2
    assert ".[train]" in run.stderr
    assert "Traceback" not in run.stderr


def loaded_after(code: str) -> set[str]:
    """Packages, top-level ones and those of asr, that a fresh interpreter imports for `code`."""
    code += "\nimport sys; print(*sorted(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names = run.stdout.split()
    return {n.split(".")[0] for n in names} | {".".join(n.split(".")[:2]) for n in names}


def test_import_and_help_load_no_torch() -> None:
    help_ = "import sys; sys.argv = ['asr', '--help']\nfrom asr.cli.main import main\n"
    help_ += "import contextlib, io\nwith contextlib.redirect_stdout(io.StringIO()):\n"
    help_ += "    try: main()\n    except SystemExit: pass"
    for code in ("import asr", help_):
        found = loaded_after(code)
        assert not found & {"torch", "lightning", "torchaudio", "numpy", "soundfile"}


def command(*names: str) -> Any:
    """The command of `asr NAMES...`, and the context in which it is parsed."""
    found = typer.main.get_command(cli.app)
    for name in names:
        found = found.commands[name]
    return found, found.make_context("asr", [], resilient_parsing=True)


def options_of(*names: str) -> dict[str, Any]:
    """The options of a command, by name."""
    found, context = command(*names)
    return {p.name: p for p in found.get_params(context) if p.param_type_name == "option"}


@pytest.mark.parametrize(
    "group",
    [cli_options.DECODING, cli_options.CHUNKS, cli_options.SUBTITLES, cli_options.TRANSCRIBING],
    ids=lambda group: group.name,
)
def test_every_field_has_an_option_with_the_help_of_the_dataclass(group) -> None:
    found, texts = options_of("transcribe"), meanings(group.kind)
    assert group.fields
    for field in group.fields:
        option = found[field.name]
        assert texts[field.name]
        assert option.help.startswith(escape(texts[field.name]))
        assert option.default is None, "None means that the option was not given"
        default = field.default
        if group is not cli_options.DECODING and isinstance(default, int | float) and default:
            assert option.help.endswith(rf"\[default: {default:g}]")


def test_the_defaults_of_decoding_are_those_of_the_chosen_recogniser() -> None:
    found, own = options_of("transcribe"), registry.decoding("english", {})
    for field in dataclasses.fields(DecoderOptions):
        english, other = getattr(own, field.name), field.default
        if english == other:
            assert " with english" not in found[field.name].help
        elif field.name == "lm":
            assert r"\[default: english.lm with english, else none]" in found["lm"].help
        else:
            displayed = [v if isinstance(v, str) else f"{v:g}" for v in (english, other)]
            expected = rf"\[default: {displayed[0]} with english, else {displayed[1]}]"
            assert found[field.name].help.endswith(expected)


def test_commands_without_alternatives_or_with_two_options_have_no_others() -> None:
    decoding = {field.name for field in dataclasses.fields(DecoderOptions)}
    for name in ("evaluate", "compare", "calibrate"):
        assert decoding - set(options_of(name)) == {"nbest"}
    assert decoding & set(options_of("lm", "tune")) == {"lm", "beam", "unknown_score"}
    assert options_of("lm", "tune")["beam"].help.endswith(r"\[default: 32]")


def test_help_shows_defaults_in_brackets(asr) -> None:
    _, out, _ = asr("transcribe", "--help")
    for displayed in ("[default: english]", "[default: 20]", "May be given several times."):
        assert displayed in " ".join(out.replace("│", " ").split())


def test_the_formats_that_help_lists_are_those_that_are_written() -> None:
    assert set(cli_speech.FORMATS) == set(WRITERS)


def test_options_that_are_given_reach_their_field(
    asr, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = {}

    def recording(
        recogniser, paths, output, formats, options, overwrite, bar, accept_truncated
    ) -> int:
        seen.update(locals())
        return 0

    monkeypatch.setattr("asr.transcribe.batch.transcribe_to", recording)
    decoding = "--decoder beam --beam 7 --beam-threshold 5 --token-threshold 4 --word-bonus 1"
    decoding += " --nbest 2"
    phrases = "--phrase Anna --phrase BEE --phrase-bonus 2"
    rest = "--chunk-seconds 9 --overlap-seconds 1 --split-on-silence --line-length 30 --lines 1"
    rest += (
        " --max-seconds 5 --min-seconds 2 --min-gap 0.5 --pause 3 --batch-seconds 60 --overwrite"
    )
    rest += " --no-progress --case lower --channel 2 --accept-truncated"
    words = f"transcribe a b - -m {files / 'model.asr'} -o out -f json -f srt"
    status, _, err = asr(*f"{words} {decoding} {phrases} {rest}".split())
    assert (status, err) == (0, "")
    assert seen["options"] == TranscribeOptions(
        DecoderOptions(
            "beam",
            beam=7,
            beam_threshold=5.0,
            token_threshold=4.0,
            word_bonus=1.0,
            nbest=2,
            phrases=("Anna", "BEE"),
            phrase_bonus=2.0,
        ),
        ChunkOptions(9.0, 1.0, True),
        SubtitleOptions(30, 1, 5.0, 2.0, 0.5, 3.0),
        60.0,
        case="lower",
        channel=2,
    )
    assert seen["accept_truncated"]
    assert (seen["paths"], seen["output"]) == (["a", "b", "-"], Path("out"))
    assert (seen["formats"], seen["overwrite"], seen["bar"]) == (["json", "srt"], True, False)


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("asr tran", ["transcribe"]),
        ("asr transcribe --dec", ["--decoder"]),
        ("asr transcribe --decoder ", ["beam", "greedy"]),
        ("asr transcribe --format ", ["json", "srt", "tsv", "txt", "vtt"]),
        ("asr lm t", ["train", "tune"]),
    ],
)
def test_the_shell_completes_commands_options_and_their_values(
    typed: str, offered: list[str]
) -> None:
    words = {"COMP_WORDS": typed, "COMP_CWORD": str(len(typed.split(" ")) - 1)}
    environment = os.environ | words | {"_ASR_COMPLETE": "complete_bash"}
    code = "import sys; sys.argv = ['asr']; from asr.cli.main import main; main()"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )
    assert sorted(run.stdout.split()) == offered


def test_every_name_of_the_python_interface_is_in_the_package() -> None:
    import asr as package

    for name in package.__all__:
        assert getattr(package, name).__name__ == name
    with pytest.raises(AttributeError, match="'asr' has no attribute 'transcibe'"):
        _ = package.transcibe


def test_python_dash_m_is_the_same_command() -> None:
    run = subprocess.run([sys.executable, "-m", "asr", "--version"], capture_output=True, text=True)
    assert run.stdout.startswith("asr 0.")
