"""An index of manifests gives the utterances that reading them gives, and notices changes."""

import json
import pickle
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.corpus.index import UtteranceIndex, durations_of, index_manifests
from asr.corpus.manifest import Utterance, read_manifest, write_manifest
from asr.corpus.sources import index, resolve
from asr.errors import AsrError


def some(name: str, count: int) -> list[Utterance]:
    """Utterances of which every third is a part of a recording."""
    whole = [
        Utterance(f"{name}{i}", f"/{name}/{i}.wav", 1 + i / 7, f"«ONE» {i}\u2028", f"s{i % 3}")
        for i in range(count)
    ]
    return [u if i % 3 else replace(u, offset=i / 3, channel=2) for i, u in enumerate(whole)]


@pytest.fixture
def manifests(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    for path, count in zip(paths, (7, 12), strict=True):
        write_manifest(path, some(path.stem, count))
    # Empty lines, other keys and no line feed at the end, as people write them.
    rows = paths[1].read_text().rstrip("\n").split("\n")
    paths[1].write_text("\n\r\n" + "\n\n".join(rows))
    return paths


def test_it_gives_the_utterances_of_all_manifests_in_their_order(manifests: list[Path]) -> None:
    expected = [u for path in manifests for u in read_manifest(path)]
    found = index_manifests(manifests)
    assert len(found) == len(expected) == 19
    assert list(found) == expected
    assert [found[i] for i in range(19)] == expected
    assert (found[-1], found[3:9:2]) == (expected[-1], expected[3:9:2])
    assert found.durations.dtype == np.float32
    assert durations_of(found).tolist() == durations_of(expected).tolist()
    for beyond in (19, -20):
        with pytest.raises(IndexError):
            found[beyond]


def test_threads_and_pickles_read_the_same(manifests: list[Path], tmp_path: Path) -> None:
    made = index_manifests(manifests)
    saved = made.save(tmp_path / "run" / "train.npy")
    content = pickle.dumps(saved)
    with ThreadPoolExecutor(max_workers=8) as threads:
        for found in (saved, pickle.loads(content), pickle.loads(pickle.dumps(made))):
            assert list(threads.map(found.__getitem__, [*range(19)] * 5)) == list(made) * 5


def test_a_saved_index_is_pickled_without_its_places(tmp_path: Path) -> None:
    sizes = []
    for count in (10, 5000):
        write_manifest(tmp_path / "m.jsonl", some("m", count))
        saved = index_manifests([tmp_path / "m.jsonl"]).save(tmp_path / f"{count}.npy")
        sizes.append(len(pickle.dumps(saved)))
        again = pickle.loads(pickle.dumps(saved))
        assert isinstance(again._rows, np.memmap)
    assert sizes[1] < 1.1 * sizes[0] < 1000


def test_another_file_in_the_place_of_the_saved_one_is_refused(
    manifests: list[Path], tmp_path: Path
) -> None:
    content = pickle.dumps(index_manifests(manifests).save(tmp_path / "train.npy"))
    index_manifests(manifests[:1]).save(tmp_path / "train.npy")
    with pytest.raises(AsrError, match="not the index that was written"):
        pickle.loads(content)
    (tmp_path / "train.npy").unlink()
    with pytest.raises(AsrError, match="where all machines see it"):
        pickle.loads(content)


def test_utterances_that_are_left_out_are_gone_and_the_others_stay(manifests: list[Path]) -> None:
    found = index_manifests(manifests)
    left = found.without({"a0", "a3", "b11", "b5"})
    assert isinstance(left, UtteranceIndex)
    assert list(left) == [u for u in found if u.id not in {"a0", "a3", "b11", "b5"}]
    assert left.ends == (5, 15)
    assert list(found.without({u.id for u in some("a", 7)})) == read_manifest(manifests[1])


def test_a_manifest_that_changes_is_noticed(manifests: list[Path]) -> None:
    found = index_manifests(manifests[:1])
    rows = manifests[0].read_bytes()
    manifests[0].write_bytes(rows.replace(b"1.142857", b"3.142857"))
    with pytest.raises(AsrError, match=r"changed while it was in use: .* of 1\.14 s"):
        found[1]
    for other in (b"\n" + rows, rows.replace(b"\n", b" ", 1), rows[:50], rows[:150], b""):
        manifests[0].write_bytes(other)
        with pytest.raises(AsrError, match="changed while it was in use"):
            list(found)
    manifests[0].write_bytes(rows)
    assert list(found) == some("a", 7)
    manifests[0].unlink()
    with pytest.raises(AsrError, match=r"a\.jsonl: cannot be read any more"):
        found[0]


def test_a_duration_that_the_manifest_lacks_is_measured_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(24_001), 16000)
    manifest = tmp_path / "m.jsonl"
    manifest.write_text('{"audio_filepath": "a.wav", "text": "A"}\n')
    found = index_manifests([manifest])
    monkeypatch.setattr("asr.corpus.manifest.length", lambda *_: pytest.fail("measured again"))
    assert found[0].duration == np.float32(24_001 / 16000)


def test_what_a_manifest_is_refused_for_is_said_as_when_it_is_read(tmp_path: Path) -> None:
    row = {"audio_filepath": "a.wav", "duration": 1, "text": "A"}
    texts = [*(json.dumps(row | {"id": f"{i}"}) for i in range(40)), "?", json.dumps(row)]
    texts += [json.dumps(row | {"id": "7"}), "{}", json.dumps(row | {"audio_filepath": "b/a.wav"})]
    manifest = tmp_path / "m.jsonl"
    manifest.write_text("\n".join(texts))
    messages = []
    for read in (read_manifest, lambda path: index_manifests([path])):
        with pytest.raises(AsrError) as caught:
            read(manifest)
        messages.append(str(caught.value).splitlines())
    assert messages[0] == messages[1]
    heading, *lines = messages[0]
    assert heading == f"{manifest}: bad lines: 4"
    assert [line.split(":")[1] for line in lines] == ["41", "43", "44", "45"]
    assert "id '7' is already used in line 8" in lines[1]
    assert "id 'a' is already used in line 42" in lines[3]


def test_of_many_bad_lines_and_ids_twenty_are_listed(tmp_path: Path) -> None:
    row = json.dumps({"audio_filepath": "a.wav", "duration": 1, "text": "A"})
    (tmp_path / "m.jsonl").write_text("\n".join(["?", row] * 100))
    with pytest.raises(AsrError, match=r"m\.jsonl: bad lines: 199") as caught:
        read_manifest(tmp_path / "m.jsonl")
    lines = str(caught.value).splitlines()
    assert len(lines) == 22
    assert [line.split(":")[1] for line in lines[1:-1]] == [str(n) for n in (1, *range(3, 22))]
    assert lines[-1] == "  and 179 more"


def test_folders_are_listed_in_a_manifest_and_manifests_are_taken_as_they_are(
    manifests: list[Path], tmp_path: Path
) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    for name in "xy":
        soundfile.write(folder / f"{name}.wav", np.zeros(16000), 16000)
        (folder / f"{name}.txt").write_text(f"TEXT OF {name.upper()}")
    entries = ["a.jsonl", "own", "b.jsonl"]
    found = index(entries, tmp_path, None, tmp_path / "run")
    assert list(found) == [u for entry in entries for u in resolve(entry, tmp_path)]
    assert list((tmp_path / "run").iterdir()) == [tmp_path / "run" / "2.jsonl"]
    for entries, message in ((["trian.jsonl"], "no such manifest"), ([""], "is empty")):
        with pytest.raises(AsrError, match=message):
            index(entries, tmp_path, None, tmp_path / "run")


def test_memory_does_not_grow_with_texts(tmp_path: Path) -> None:
    manifest = tmp_path / "m.jsonl"
    write_manifest(manifest, [replace(u, text="WORD " * 200) for u in some("m", 4000)])
    list(index_manifests([manifest]).without({"m1"})[:2])  # what is made once is made now
    tracemalloc.start()
    found = index_manifests([manifest])
    assert sum(1 for _ in found) == 4000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * 2**20, "a buffer, names of files that Python caches, bytes an utterance"
    assert manifest.stat().st_size > 4 * 2**20
