"""LibriSpeech's layout is read as torchaudio reads it, with some extensions."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.corpus import librispeech
from asr.errors import AsrError

MINIATURE = {
    "dev-clean/84/121123": ["GO DO YOU HEAR", "BUT IN LESS THAN FIVE MINUTES"],
    "dev-clean/84/121550": ["IT'S A LONG WAY"],
    "dev-clean/1272/128104": ["MISTER QUILTER", "NOR IS MISTER QUILTER'S MANNER"],
    "test-clean/61/70968": ["HE BEGAN A CONFUSED COMPLAINT"],
}


def write_audio(path: Path, seconds: float = 0.25, rate: int = 16000) -> None:
    samples = np.random.default_rng(0).normal(0, 0.1, round(seconds * rate))
    kind = {"format": "OGG", "subtype": "OPUS"} if path.suffix == ".opus" else {}
    soundfile.write(path, samples, rate, **kind)


def write_chapter(folder: Path, texts: list[str], suffix: str = ".flac") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"{folder.parent.name}-{folder.name}"
    lines = []
    for number, text in enumerate(texts):
        write_audio(folder / f"{stem}-{number:04d}{suffix}", 0.25 + 0.125 * number)
        lines.append(f"{stem}-{number:04d} {text}\n")
    (folder / f"{stem}.trans.txt").write_text("".join(lines))


@pytest.fixture
def root(tmp_path) -> Path:
    for chapter, texts in MINIATURE.items():
        write_chapter(tmp_path / "LibriSpeech" / chapter, texts)
    (tmp_path / "LibriSpeech" / "README.TXT").write_text("about")
    return tmp_path / "LibriSpeech"


def test_a_part_is_read_as_torchaudio_reads_it(root):
    datasets = pytest.importorskip("torchaudio.datasets")
    reference = datasets.LIBRISPEECH(
        root.parent, url="dev-clean", folder_in_archive="LibriSpeech", download=False
    )
    expected = []
    for index in range(len(reference)):
        path, rate, text, speaker, chapter, number = reference.get_metadata(index)
        key = f"{speaker}-{chapter}-{number:04d}"
        expected.append((key, str(root / path), text, str(speaker)))
        assert soundfile.info(str(root / path)).samplerate == rate
    ours = librispeech.scan(root / "dev-clean")
    assert sorted((u.id, u.audio_filepath, u.text, u.speaker) for u in ours) == sorted(expected)
    assert len(ours) == 5
    assert {u.duration for u in ours} == {0.25, 0.375}


def test_root_part_speaker_and_chapter_are_read_alike(root):
    everything = librispeech.scan(root)
    assert [u.id for u in everything] == [
        "1272-128104-0000",
        "1272-128104-0001",
        "84-121123-0000",
        "84-121123-0001",
        "84-121550-0000",
        "61-70968-0000",
    ]
    assert librispeech.scan(root / "dev-clean") == everything[:5]
    assert librispeech.scan(root / "dev-clean" / "84") == everything[2:5]
    assert librispeech.scan(root / "dev-clean" / "84" / "121550") == everything[4:5]


def test_a_chapter_is_read_from_inside_it(root, monkeypatch):
    monkeypatch.chdir(root / "test-clean" / "61" / "70968")
    assert [(u.speaker, u.audio_filepath) for u in librispeech.scan(".")] == [
        ("61", "61-70968-0000.flac")
    ]


@pytest.mark.parametrize("suffix", [".wav", ".ogg", ".opus", ".mp3", ".FLAC"])
def test_other_formats_lie_beside_transcripts(tmp_path, suffix):
    write_chapter(tmp_path / "7" / "8", ["ONE"], suffix)
    (found,) = librispeech.scan(tmp_path)
    assert (found.id, found.text, Path(found.audio_filepath).suffix) == ("7-8-0000", "ONE", suffix)
    assert found.duration == pytest.approx(0.25, abs=0.02)


def test_an_utterance_with_two_files_is_read_once_from_the_lossless_one(root):
    chapter = root / "test-clean" / "61" / "70968"
    write_audio(chapter / "61-70968-0000.mp3")
    assert [u.audio_filepath for u in librispeech.scan(chapter)] == [
        str(chapter / "61-70968-0000.flac")
    ]


def test_other_files_and_folders_are_passed_over(root):
    before = librispeech.scan(root)
    (root / "SPEAKERS.TXT").write_text("84 | F")
    (root / "utterances.tsv").write_text("a\tb\n")
    (root / "noise" / "esc10").mkdir(parents=True)
    write_audio(root / "noise" / "esc10" / "1-100-rain.wav")
    (root / ".partial" / "1" / "2").mkdir(parents=True)
    (root / ".partial" / "1" / "2" / "1-2.trans.txt").write_text("1-2-0000 HIDDEN\n")
    assert librispeech.scan(root) == before


def test_parts_behind_links_are_read_once(root, tmp_path):
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "dev-clean").symlink_to(root / "dev-clean")
    (linked / "dev-again").symlink_to(root / "dev-clean")
    (linked / "loop").symlink_to(linked)
    assert [u.id for u in librispeech.scan(linked)] == [
        u.id for u in librispeech.scan(root / "dev-clean")
    ]


def test_transcripts_and_recordings_that_disagree_are_listed_together(root):
    chapter = root / "dev-clean" / "84" / "121123"
    transcript = chapter / "84-121123.trans.txt"
    with transcript.open("a") as file:
        file.write("84-121123-0009 NOBODY READ THIS\n")
    write_audio(chapter / "84-121123-0007.flac")
    lost = root / "test-clean" / "61" / "70968"
    (lost / "61-70968.trans.txt").unlink()
    with pytest.raises(AsrError) as caught:
        librispeech.scan(root)
    assert str(caught.value).splitlines() == [
        f"{root}: transcripts and recordings disagree: 3",
        f"  {transcript}:3: no recording 84-121123-0009 beside it "
        "(.flac, .wav, .ogg, .opus, .mp3 or other audio)",
        f"  {chapter}/84-121123-0007.flac: no line in 84-121123.trans.txt beside it",
        f"  {lost}/61-70968-0000.flac: no trans.txt beside it",
    ]


def test_an_id_that_occurs_twice_is_refused_with_both_places(root):
    copy = root / "test-clean" / "84" / "121550"
    write_chapter(copy, ["IT'S A LONG WAY"])
    first = root / "dev-clean" / "84" / "121550" / "84-121550.trans.txt"
    with pytest.raises(AsrError) as caught:
        librispeech.scan(root)
    assert f"{copy}/84-121550.trans.txt:1: id 84-121550-0000 is already used in {first}:1" in str(
        caught.value
    )


def test_a_line_without_text_is_read_and_reported_by_the_check(root):
    chapter = root / "test-clean" / "61" / "70968"
    (chapter / "61-70968.trans.txt").write_text("61-70968-0000\n\n")
    assert [u.text for u in librispeech.scan(chapter)] == [""]


def test_an_unreadable_recording_gets_duration_zero(root):
    chapter = root / "test-clean" / "61" / "70968"
    (chapter / "61-70968-0000.flac").write_bytes(b"no audio")
    assert [u.duration for u in librispeech.scan(chapter)] == [0.0]


def test_a_missing_official_part_lists_the_existing_parts(root):
    with pytest.raises(AsrError) as caught:
        librispeech.scan(root / "train-clean-100")
    assert str(caught.value) == (
        f"{root}/train-clean-100: no such folder (one of LibriSpeech's seven parts); "
        f"parts in {root}: dev-clean, test-clean"
    )


def test_a_misspelt_part_lists_the_existing_parts(root):
    with pytest.raises(AsrError, match=r"no such folder; parts in .*: dev-clean, test-clean"):
        librispeech.scan(root / "dev_clean")


def test_a_folder_without_transcripts_is_refused(tmp_path):
    write_audio(tmp_path / "a.wav")
    with pytest.raises(AsrError, match=r"no \*\.trans\.txt in it or below"):
        librispeech.scan(tmp_path)


def test_the_official_parts_are_those_of_torchaudio():
    module = pytest.importorskip("torchaudio.datasets.librispeech")
    assert sorted(librispeech.OFFICIAL_PARTS) == sorted(module._DATA_SUBSETS)
