"""Utterances that are unusable for training are found, explained, refused or left out."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from encoded import encode, sound

from asr import audio
from asr.corpus.check import ADVICE, KINDS, Criteria, check, usable
from asr.corpus.commands import check_utterances, make_manifest
from asr.corpus.manifest import Utterance, read_manifest, write_manifest
from asr.errors import AsrError
from asr.features.settings import Frontend
from asr.model.dimensions import Model
from asr.text.tokenizer import CharacterTokenizer

FRONTEND, MODEL, TOKENIZER = Frontend(), Model(), CharacterTokenizer()
CRITERIA = Criteria(FRONTEND.sample_rate, FRONTEND.frames, MODEL.output_length)


def utterance(folder: Path, name: str, text: str, samples: int = 16000, rate: int = 16000):
    noise = np.random.default_rng(0).normal(0, 0.1, samples)
    path = folder / f"{name}.wav"
    soundfile.write(path, noise, rate)
    return Utterance(name, str(path), samples / rate, text, "")


def kinds(report):
    return {kind: [key for key, _ in found] for kind, found in report.problems.items()}


def test_good_utterances_have_no_problems(tmp_path):
    good = [utterance(tmp_path, "a", "It's a test."), utterance(tmp_path, "b", "hello", 8000, 8000)]
    report = check(good, TOKENIZER, replace(CRITERIA, max_seconds=1.0, decode=True))
    assert (report.problems, report.count, report.checked) == ({}, 0, 2)
    assert report.table() == "2 utterances checked, no problems"
    assert usable(good, report) == good


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("BOOK" * 5, True),  # 20 letters and 5 repeats, as many as output frames
        ("BOOK" * 5 + "A", False),
        ("BOOK" * 4 + "ABCDE", True),
        ("BOOK" * 4 + "ABCDD", False),
    ],
)
def test_ctc_alignment_is_refused_exactly_where_its_loss_is_infinite(tmp_path, text, fits):
    torch = pytest.importorskip("torch")
    frames = MODEL.output_length(FRONTEND.frames(16000))
    assert frames == 25
    tokens = torch.tensor([TOKENIZER.encode(text)])
    log_probs = torch.zeros(frames, 1, TOKENIZER.size).log_softmax(-1)
    loss = torch.nn.functional.ctc_loss(
        log_probs, tokens, torch.tensor([frames]), torch.tensor([tokens.shape[1]])
    )
    assert bool(torch.isfinite(loss)) is fits
    report = check([utterance(tmp_path, "a", text)], TOKENIZER, CRITERIA)
    assert (report.count == 0) is fits


def test_the_frames_that_ctc_needs_count_tokens_and_repeats(tmp_path):
    fits = utterance(tmp_path, "fits", "ABCDEFGHIJKLMNOPQRSTUVWW")  # 24 tokens, 1 repeat
    lacks_one = utterance(tmp_path, "lacks", "ABCDEFGHIJKLMNOPQRSTUUVVW")  # 25 and 2
    report = check([fits, lacks_one], TOKENIZER, CRITERIA)
    assert report.problems == {
        "cannot_align": [
            (
                "lacks",
                "25 tokens and 2 repeats need 27 output frames; 1.00 s give 25",
            )
        ]
    }


def test_speed_perturbation_shortens_what_ctc_has(tmp_path):
    one = utterance(tmp_path, "a", "ABCDEFGHIJKLMNOPQRSTUVWX")  # 24 tokens
    assert check([one], TOKENIZER, CRITERIA).count == 0
    report = check([one], TOKENIZER, replace(CRITERIA, speed=1.1))
    # 16000 / 1.1 samples: 89 frames, 23 output frames.
    assert report.problems["cannot_align"] == [
        ("a", "24 tokens and 0 repeats need 24 output frames; 1.00 s at speed 1.1 give 23")
    ]


def test_frames_are_counted_at_the_rate_of_the_frontend(tmp_path):
    text = "ABCDEFGHIJKLMNOPQRSTUVWXY"
    fits = utterance(tmp_path, "a", text, 44100, 44100)
    assert check([fits], TOKENIZER, CRITERIA).count == 0
    assert kinds(check([fits], TOKENIZER, replace(CRITERIA, speed=1.03))) == {"cannot_align": ["a"]}


def test_every_kind_is_found_and_an_utterance_may_have_several(tmp_path):
    gone = Utterance("gone", str(tmp_path / "gone.wav"), 1.0, "HERE 4 ME", "")
    utterances = [
        utterance(tmp_path, "good", "good"),
        utterance(tmp_path, "dots", "...", 200),
        utterance(tmp_path, "short", "", 0),
        utterance(tmp_path, "window", "", 399),
        utterance(tmp_path, "long", "route 66", 40000),
        gone,
    ]
    report = check(utterances, TOKENIZER, replace(CRITERIA, max_seconds=2.0))
    assert kinds(report) == {
        "unreadable": ["gone"],
        "too_short": ["dots", "short", "window"],
        "too_long": ["long"],
        "empty_text": ["dots", "short", "window"],
        "digits": ["long", "gone"],
    }
    assert report.count == 5
    assert usable(utterances, report) == utterances[:1]
    assert dict(report.problems["unreadable"])["gone"] == f"{gone.audio_filepath}: no such file"
    assert dict(report.problems["empty_text"])["dots"] == "the text is '...'"
    assert dict(report.problems["too_long"])["long"] == "2.50 s, above 2 s"
    assert "'6'" in dict(report.problems["digits"])["long"]


def test_table_counts_each_kind_and_shows_the_first_utterances(tmp_path):
    one = utterance(tmp_path, "0", "")
    report = check([replace(one, id=str(i)) for i in range(25)], TOKENIZER, CRITERIA)
    table = report.table().splitlines()
    assert table[0] == "25 utterances checked, 25 with problems"
    assert table[1].split() == ["empty_text", "25", *KINDS["empty_text"].split()]
    assert table[2] == f"empty_text: {ADVICE['empty_text']}"
    assert table[-2:] == ["  19: the text is ''", "  and 5 more"]


@pytest.mark.parametrize("decode", [False, True])
def test_truncated_flac_is_found_whether_it_is_decoded_or_not(tmp_path, decode):
    path = tmp_path / "a.flac"
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, 48000), 16000)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    truncated = [Utterance("a", str(path), 3.0, "A", "")]
    report = check(truncated, TOKENIZER, replace(CRITERIA, decode=decode))
    assert kinds(report) == {"unreadable": ["a"]}
    assert str(path) in report.problems["unreadable"][0][1]


def test_truncated_wav_is_found_by_its_header_and_the_manifest(tmp_path):
    one = utterance(tmp_path, "a", "A", 48000)
    path = Path(one.audio_filepath)
    path.write_bytes(path.read_bytes()[:48044])
    assert check([one], TOKENIZER, CRITERIA).problems == {
        "unreadable": [("a", f"{path}: truncated, 1.50 s of 3.00 s are there")]
    }
    soundfile.write(path, np.zeros(24000), 16000)
    assert check([one], TOKENIZER, CRITERIA).problems == {
        "unreadable": [
            (
                "a",
                f"{path}: has 1.50 s, its manifest says 3.00 s: cut short, or changed since the "
                "manifest was made",
            )
        ]
    }


def test_a_recording_is_as_long_whether_it_is_decoded_or_not(tmp_path):
    (tmp_path / "a.m4a").write_bytes(encode("m4a", sound(1.0)))
    path = str(tmp_path / "a.m4a")
    seconds, decoded = audio.length(path), audio.load(path, 16000).seconds
    assert seconds != decoded
    one = [Utterance("a", path, seconds, "A", "")]
    between = replace(CRITERIA, max_seconds=(seconds + decoded) / 2)
    first, resumed = (check(one, TOKENIZER, replace(between, decode=d)) for d in (True, False))
    assert first == resumed


def test_one_id_twice_is_refused_with_both_recordings(tmp_path):
    first, other = utterance(tmp_path, "a", "A"), utterance(tmp_path, "b", "B")
    for twice in (first, replace(other, id="a")):
        with pytest.raises(
            AsrError, match="ids that occur twice: 1; entries may overlap"
        ) as caught:
            check([first, other, twice], TOKENIZER, CRITERIA)
        paths = f"  a: {first.audio_filepath} and {twice.audio_filepath}"
        assert str(caught.value).splitlines()[1:] == [paths]


def test_results_are_in_manifest_order_and_progress_is_reported(tmp_path):
    one = utterance(tmp_path, "0", "")
    many = [replace(one, id=str(i)) for i in range(50)]
    calls: list[int] = []
    report = check(many, TOKENIZER, CRITERIA, lambda: calls.append(1))
    assert [key for key, _ in report.problems["empty_text"]] == [u.id for u in many]
    assert len(calls) == 50


def test_check_command_prints_the_table_and_refuses(tmp_path, capsys):
    utterances = [utterance(tmp_path, "good", "good"), utterance(tmp_path, "bad", "[b]8[/b]")]
    write_manifest(tmp_path / "m.jsonl", utterances)
    with pytest.raises(AsrError, match=r"1 of 2 utterances cannot be used.*--exclude-to FILE"):
        check_utterances(str(tmp_path / "m.jsonl"), TOKENIZER, CRITERIA)
    output = capsys.readouterr().out
    assert "m.jsonl: 2 utterances, 0.00 hours, longest 1.0 s, unknown speakers" in output
    assert "1 of 2 utterances with problems" in output
    assert "  bad: the tokenizer lacks '8', found in 'B8 B'" in output


def test_check_command_writes_the_usable_rest(tmp_path, capsys):
    utterances = [utterance(tmp_path, "good", "good"), utterance(tmp_path, "bad", "")]
    write_manifest(tmp_path / "m.jsonl", utterances)
    report = check_utterances(
        str(tmp_path / "m.jsonl"), TOKENIZER, CRITERIA, tmp_path / "rest.jsonl"
    )
    assert report.count == 1
    assert read_manifest(tmp_path / "rest.jsonl") == utterances[:1]
    assert "bad: the text is ''" in capsys.readouterr().out


def test_check_command_never_overwrites_its_input_and_never_writes_an_empty_manifest(tmp_path):
    write_manifest(tmp_path / "m.jsonl", [utterance(tmp_path, "bad", "")])
    with pytest.raises(AsrError, match="this is the manifest that is checked"):
        check_utterances(str(tmp_path / "m.jsonl"), TOKENIZER, CRITERIA, tmp_path / "." / "m.jsonl")
    with pytest.raises(AsrError, match="no usable utterance is left"):
        check_utterances(str(tmp_path / "m.jsonl"), TOKENIZER, CRITERIA, tmp_path / "rest.jsonl")
    assert not (tmp_path / "rest.jsonl").exists()


def test_make_command_finds_the_layout_and_names_what_cannot_be_opened(tmp_path, capsys):
    own = tmp_path / "own"
    own.mkdir()
    utterance(own, "a", "")
    (own / "a.txt").write_text("ay")
    (own / "b.flac").write_bytes(b"no audio")
    (own / "b.txt").write_text("bee")
    for _ in range(2):  # the second time its own output is in the folder
        found = make_manifest("auto", own, own / "m.jsonl")
        assert read_manifest(own / "m.jsonl") == found
        assert [(u.id, u.duration, u.text) for u in found] == [("a", 1, "ay"), ("b", 0, "bee")]
    assert f"1 recordings are empty or cannot be opened:\n  {own}/b.flac" in capsys.readouterr().out
    chapter = tmp_path / "libri" / "7" / "8"
    chapter.mkdir(parents=True)
    utterance(chapter, "7-8-0000", "")
    (chapter / "7-8.trans.txt").write_text("7-8-0000 SEVEN\n")
    found = make_manifest("auto", tmp_path / "libri", tmp_path / "libri.jsonl")
    assert [(u.text, u.speaker) for u in found] == [("SEVEN", "7")]
    assert "libri.jsonl: 1 utterances, 0.00 hours, longest 1.0 s, 1 speakers" in (
        capsys.readouterr().out
    )
    with pytest.raises(AsrError, match="LibriSpeech's layout has its own texts"):
        make_manifest("auto", tmp_path / "libri", tmp_path / "libri.jsonl", texts="txt")
