"""A run folder is continued with the settings and the data that it was begun with."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from small_run import settings_of

from asr.corpus.manifest import Utterance
from asr.errors import AsrError
from asr.settings.run import Run
from asr.settings.yaml import load, write_yaml
from asr.train.folder import begin, check_same, resume_point
from asr.train.run import train

UTTERANCES = [Utterance(str(i), f"{i}.wav", 3.0, "HI", "s") for i in range(4)]
OLDER = "0a791db58c38fce9f0a75e14cee51806b4a6f4f583840cc86841b35c7452d038"
"""Digest of `UTTERANCES` in the folder of an older run."""
Part = list[Utterance]


def begun(folder: Path) -> None:
    """The folder has a resume point, though one that nothing can be resumed from."""
    resume_point(folder).parent.mkdir(parents=True, exist_ok=True)
    resume_point(folder).touch()


@pytest.mark.parametrize(
    "change",
    [
        lambda train, dev: ([*train, dev[0]], dev[1:]),
        lambda train, dev: ([replace(train[0], channel=1), *train[1:]], dev),
        lambda train, dev: ([replace(train[0], text="HO"), *train[1:]], dev),
    ],
    ids=["dealt otherwise", "a channel", "a text"],
)
def test_other_data_is_refused(tmp_path: Path, change: Callable[[Part, Part], tuple[Part, Part]]):
    train, dev = UTTERANCES[:2], UTTERANCES[2:]
    for _ in range(2):
        begin(tmp_path, Run(), train, dev)
        begun(tmp_path)
    with pytest.raises(AsrError, match="other training or dev data"):
        begin(tmp_path, Run(), *change(train, dev))


def test_a_folder_with_the_digest_of_an_older_run_is_continued(tmp_path: Path) -> None:
    begin(tmp_path, Run(), UTTERANCES[:2], UTTERANCES[2:])
    starts = tmp_path / "starts.json"
    older = [json.loads(starts.read_text())[0] | {"data": OLDER}]
    starts.write_text(json.dumps(older))
    begun(tmp_path)
    for _ in range(2):
        begin(tmp_path, Run(), UTTERANCES[:2], UTTERANCES[2:])
    with pytest.raises(AsrError, match="other training or dev data"):
        begin(tmp_path, Run(), UTTERANCES[:2], UTTERANCES[3:])


def test_a_network_of_another_run_may_be_moved_together_with_the_run(tmp_path: Path) -> None:
    earlier, moved = tmp_path / "earlier", tmp_path / "moved"
    (earlier / "a").mkdir(parents=True)
    (earlier / "a" / "model.asr").touch()
    begun(earlier / "b")
    write_yaml(earlier / "b" / "config.yaml", Run(init=f"{earlier}/a/model.asr"))
    earlier.rename(moved)
    check_same(moved / "b", Run(init=f"{moved}/a/model.asr"))
    for other in (f"{moved}/c/model.asr", f"{tmp_path}/a/model.asr"):
        Path(other).parent.mkdir()
        Path(other).touch()
        with pytest.raises(AsrError, match="init: '"):
            check_same(moved / "b", Run(init=other))


def test_other_settings_are_refused_before_anything_is_written(
    corpus: Path, tmp_path: Path
) -> None:
    settings = load(Run, None, settings_of(tmp_path, corpus, "x"))
    folder = tmp_path / "t" / "x"
    begun(folder)
    write_yaml(folder / "config.yaml", settings)
    before = {path.name for path in folder.rglob("*")} | {".lock"}
    other = load(Run, None, settings_of(tmp_path, corpus, "x", "data.train=[test.jsonl]"))
    with pytest.raises(AsrError, match=r"(?s)holds a run with other settings.*data\.train"):
        train(other, Console(quiet=True))
    assert {path.name for path in folder.rglob("*")} <= before
