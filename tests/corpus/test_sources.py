"""An entry of data.train, dev or test becomes utterances, whatever kind it is."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from paths import ROOT

from asr.corpus import sources
from asr.corpus.manifest import Utterance, write_manifest
from asr.corpus.spoken.settings import Spoken
from asr.errors import AsrError

SHARED = ROOT.parent / "shared" / "speech"


@pytest.fixture
def root(tmp_path) -> Path:
    """One of each kind: a part in LibriSpeech's layout, a folder of recordings, a manifest."""
    chapter = tmp_path / "Libri" / "dev-clean" / "7" / "8"
    own = tmp_path / "own" / "anna"
    for folder, name in ((chapter, "7-8-0000.flac"), (own, "x.wav")):
        folder.mkdir(parents=True)
        soundfile.write(folder / name, np.zeros(4000), 16000)
    (chapter / "7-8.trans.txt").write_text("7-8-0000 SEVEN\n")
    (own / "x.txt").write_text("ex")
    write_manifest(
        tmp_path / "list.jsonl",
        [Utterance("1", str(chapter / "7-8-0000.flac"), 0.25, "SEVEN", "7")],
    )
    return tmp_path


def test_each_kind_of_entry_is_read_relative_to_the_root(root):
    audio = str(root / "Libri/dev-clean/7/8/7-8-0000.flac")
    libri = Utterance("7-8-0000", audio, 0.25, "SEVEN", "7")
    assert sources.resolve("Libri/dev-clean", root) == [libri]
    assert sources.resolve("Libri", root) == [libri]
    assert sources.resolve("list.jsonl", root) == [Utterance("1", audio, 0.25, "SEVEN", "7")]
    assert sources.resolve("own", root) == [
        Utterance("anna/x", str(root / "own/anna/x.wav"), 0.25, "ex", "anna")
    ]


def test_absolute_entries_and_the_current_folder(root, monkeypatch):
    by_root = sources.resolve("own", str(root))
    assert sources.resolve(str(root / "own"), "/elsewhere") == by_root
    monkeypatch.chdir(root)
    assert [u.audio_filepath for u in sources.resolve("own/")] == ["own/anna/x.wav"]


@pytest.mark.parametrize(
    ("entry", "fragment"),
    [
        ("Libri/dev-claen", "no such folder; parts in {root}/Libri: dev-clean"),
        ("Libri/train-clean-100", "(one of LibriSpeech's seven parts); parts in {root}/Libri: dev"),
        ("Lirbi/dev-clean", "no such folder; did you mean {root}/Libri?"),
        ("lists.jsonl", "no such manifest; did you mean {root}/list.jsonl?"),
        ("list", "no such folder; did you mean {root}/list.jsonl?"),
        ("own/anna/x.wav", "neither a folder nor a manifest"),
        ("spoken:tset", "there are spoken:train, spoken:dev, spoken:test; did you mean spoken:te"),
        ("", "is empty"),
    ],
)
def test_unknown_entries_list_those_that_exist(root, entry, fragment):
    with pytest.raises(AsrError) as caught:
        sources.resolve(entry, str(root))
    assert fragment.format(root=root) in str(caught.value)


def test_a_part_of_the_spoken_corpus_is_made_when_it_is_asked_for(tmp_path):
    pytest.importorskip("espeakng_loader")
    spoken = Spoken(
        train_hours=0.002, dev_hours=0.002, test_hours=0.002, folder=str(tmp_path / "s")
    )
    found = sources.resolve("spoken:dev", "/elsewhere", spoken)
    assert found
    assert all(Path(u.audio_filepath).is_file() and u.text and u.speaker for u in found)
    assert sources.resolve("spoken:dev", spoken=spoken) == found


@pytest.mark.parametrize(
    ("entry", "name"),
    [
        ("spoken:test", "spoken test"),
        ("/corpora/LibriSpeech/test-clean", "test-clean"),
        ("LibriSpeech/dev-other/", "dev-other"),
        ("lists/coffee.jsonl", "coffee"),
        ("lists/coffee/test.jsonl", "coffee test"),
        ("test.jsonl", "test"),
    ],
)
def test_entries_have_short_names_for_reports(entry, name):
    assert sources.describe(entry) == name


@pytest.mark.skipif(not SHARED.is_dir(), reason="no recorded speech beside the checkout")
def test_recorded_speech_is_read_whole():
    found = sources.resolve("test-clean", SHARED)
    assert (len(found), len({u.speaker for u in found})) == (200, 20)
    assert sum(len(u.text.split()) for u in found) == 4469
    assert sum(u.duration for u in found) / 3600 == pytest.approx(0.474, abs=0.005)
