"""Recordings become words that can be played, edited and written as files."""

import base64
import json
import random
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from browser import finished, until, upload, words_of
from paths import TRAINED
from served import in_thread

import asr
from asr.decode.hypothesis import Word
from asr.server.options import ServerOptions
from asr.transcribe.formats import WRITERS
from asr.transcribe.transcript import Transcript

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page, Route


@pytest.fixture(scope="session")
def offline(recording: Path) -> Transcript:
    """What `asr transcribe` makes of the recording."""
    return next(iter(asr.load(TRAINED).transcribe([recording])))


def save(page: "Page", item: "Locator", format: str, folder: Path) -> Path:
    """The file that the page gives for download."""
    with page.expect_download() as download:
        item.locator(f"[data-format={format}]").click()
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    return path


def test_a_recording_becomes_the_words_of_asr_transcribe(
    page: "Page", recording: Path, offline: Transcript
) -> None:
    item = upload(page, recording)
    assert words_of(item) == [word.text for word in offline.words]
    assert item.locator(".name").text_content() == recording.name
    assert "sparse" in item.locator(".state").text_content()
    assert page.locator("#progress-note").text_content() == "1 of 1 transcribed"
    for box, word in zip(item.locator(".words .word").all(), offline.words, strict=True):
        sure = round(word.confidence, 3)
        kind = "" if sure >= 0.8 else "unsure" if sure >= 0.5 else "doubtful"
        assert (box.get_attribute("class") or "").split() == ["word", *filter(None, [kind])]
        # Not by colour alone: the words are underlined, and said with their confidence.
        line = box.evaluate("box => getComputedStyle(box).textDecorationLine")
        assert line == ("underline" if kind else "none")
        assert ("% sure" in (box.get_attribute("aria-label") or "")) == bool(kind)


def test_a_click_plays_from_the_word_and_marks_what_is_played(
    page: "Page", recording: Path, offline: Transcript
) -> None:
    item = upload(page, recording)
    number = len(offline.words) // 2
    start = offline.words[number].start
    audio = item.locator("audio")
    item.locator(".words .word").nth(number).click()
    until(page, "!document.querySelector('audio').paused")
    assert start - 0.01 <= audio.evaluate("audio => audio.currentTime") < start + 1
    page.wait_for_selector(".word.now")
    time, now = page.evaluate(
        "[document.querySelector('audio').currentTime,"
        "[...document.querySelectorAll('.words .word')].indexOf(document.querySelector('.now'))]"
    )
    assert offline.words[now].start <= time + 0.05
    until(
        page,
        "number => [...document.querySelectorAll('.words .word')]"
        ".indexOf(document.querySelector('.now')) > number",
        number,
    )
    audio.evaluate("audio => audio.pause()")


def test_downloads_are_the_files_of_asr_transcribe(
    page: "Page", recording: Path, offline: Transcript, tmp_path: Path
) -> None:
    item = upload(page, recording)
    for format in ("txt", "srt", "vtt"):
        path = save(page, item, format, tmp_path)
        assert path.name == f"{recording.stem}.{format}"
        assert path.read_text(encoding="utf-8") == offline.to(format)
    saved = json.loads(save(page, item, "json", tmp_path).read_text(encoding="utf-8"))
    expected = json.loads(offline.to("json"))
    for name in ("text", "duration", "words"):
        assert saved[name] == expected[name]
    assert (saved["path"], saved["model"]) == (recording.name, "sparse")


def test_subtitles_are_those_of_asr_transcribe_for_any_words(page: "Page") -> None:
    rng = random.Random(3)
    for _ in range(60):
        words, time = [], 0.0
        for _ in range(rng.choice([0, 1, 2, 9, 60])):
            time += rng.choice([0, 0.02, 0.2, 0.6, 1.4, 1.6, 9])
            text = "".join(rng.choices("ab-ü<&😀", k=rng.choice([1, 3, 6, 12, 50, 100])))
            end = round(time + rng.choice([0, 0.05, 0.3, 1.2, 8]), 3)
            words.append(Word(text, round(time, 3), end, 0.5))
            time = end - rng.choice([0, 0, 0.1])
        transcript = Transcript("", " ".join(w.text for w in words), time, "m", tuple(words))
        plain = [{"word": w.text, "start": w.start, "end": w.end} for w in words]
        for format in ("txt", "srt", "vtt"):
            written = page.evaluate(
                "([words, format]) =>"
                " import('/page/export.js').then(({write}) => write({words}, format))",
                [plain, format],
            )
            assert written == WRITERS[format].document(transcript)


def test_an_edited_word_is_in_every_download(
    page: "Page", recording: Path, offline: Transcript, tmp_path: Path
) -> None:
    item = upload(page, recording)
    first = offline.words[0]
    item.locator(".words .word").first.dblclick()
    page.keyboard.type("two words")
    page.keyboard.press("Enter")
    rest = [word.text for word in offline.words[1:]]
    assert words_of(item) == ["two", "words", *rest]
    text = save(page, item, "txt", tmp_path).read_text(encoding="utf-8")
    assert text.split() == ["two", "words", *rest]
    for format in ("srt", "vtt"):
        assert "two words" in save(page, item, format, tmp_path).read_text(encoding="utf-8")
    saved = json.loads(save(page, item, "json", tmp_path).read_text(encoding="utf-8"))["words"]
    assert [saved[0]["start"], saved[1]["end"]] == [round(first.start, 3), round(first.end, 3)]
    assert saved[0]["end"] == saved[1]["start"]
    assert all(word["edited"] for word in saved[:2])
    assert "edited" not in saved[2]


def test_edits_are_cancelled_undone_and_remove_words(
    page: "Page", recording: Path, offline: Transcript
) -> None:
    item = upload(page, recording)
    said = [word.text for word in offline.words]
    word = item.locator(".words .word").nth(1)
    item.locator(".edit").click()
    word.click()
    page.keyboard.type("wrong")
    page.keyboard.press("Escape")
    assert words_of(item) == said
    word.click()
    page.keyboard.press("Backspace")
    page.keyboard.press("Enter")
    assert words_of(item) == [said[0], *said[2:]]
    word.click()
    page.keyboard.type("<b>bold</b>")
    page.locator("h1").click()  # leaving the field keeps what was typed
    assert words_of(item) == [said[0], "<b>bold</b>", *said[3:]]
    item.locator(".undo").click()
    item.locator(".undo").click()
    assert words_of(item) == said
    assert item.locator(".undo").is_hidden()


def test_several_files_are_transcribed_one_after_the_other(
    page: "Page", recording: Path, offline: Transcript, tmp_path: Path
) -> None:
    page.evaluate(
        """() => {
            [window.running, window.most] = [0, 0];
            const send = XMLHttpRequest.prototype.send;
            XMLHttpRequest.prototype.send = function (body) {
                window.most = Math.max(window.most, ++window.running);
                this.addEventListener("readystatechange", () => {
                    if (this.readyState === 4) window.running--;
                });
                send.call(this, body);
            };
        }"""
    )
    items = upload(page, *[recording] * 4)
    assert items.count() == 4
    for item in items.all():
        assert words_of(item) == [word.text for word in offline.words]
    assert page.evaluate("window.most") == 1
    items.first.locator(".remove").click()
    assert page.locator("#progress-note").text_content() == "3 of 3 transcribed"


def test_a_folder_gives_its_recordings_and_says_what_is_left_out(
    page: "Page", recording: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "talks"
    (folder / "deep").mkdir(parents=True)
    for name in ("b2.wav", "b10.wav", "deep/a.wav"):
        (folder / name).write_bytes(recording.read_bytes())
    (folder / "notes.pdf").write_text("no recording")
    page.set_input_files("#folder", folder)
    finished(page, 3)
    names = page.locator(".item .name").all_text_contents()
    assert names == ["talks/b2.wav", "talks/b10.wav", "talks/deep/a.wav"]
    assert page.locator("#intake-note").text_content() == "1 other file left out."


def test_files_can_be_dropped_on_the_page(page: "Page", recording: Path) -> None:
    page.evaluate(
        """text => {
            const bytes = Uint8Array.from(atob(text), letter => letter.charCodeAt());
            const transfer = new DataTransfer();
            transfer.items.add(new File([bytes], "dropped.wav"));
            for (const type of ["dragover", "drop"]) {
                document.body.dispatchEvent(
                    new DragEvent(type, {dataTransfer: transfer, bubbles: true, cancelable: true}));
            }
        }""",
        base64.b64encode(recording.read_bytes()).decode(),
    )
    finished(page)
    assert page.locator(".name").text_content() == "dropped.wav"


def test_the_same_recording_by_a_dense_and_a_sparse_model(
    page: "Page", recording: Path, offline: Transcript, dense: Path
) -> None:
    item = upload(page, recording)
    item.locator(".compare-open").click()
    item.locator(".run").click()
    page.wait_for_selector(".compare-state:text('times')")
    sides = item.locator(".side")
    assert sides.locator("select").evaluate_all("all => all.map(one => one.value)") == [
        "dense",
        "sparse",
    ]
    sizes = sides.locator(".size").all_text_contents()
    assert sizes == [
        f"{dense.stat().st_size / 1e6:.2f} MB",
        f"{TRAINED.stat().st_size / 1e3:.0f} kB",
    ]
    assert sides.locator(".text").all_text_contents()[1].split() == offline.text.split()
    for time in sides.locator(".time").all_text_contents():
        ms, _, rest = time.partition(" ms, ")
        assert int(ms) > 0
        assert int(rest.split()[0]) > 1


def test_models_cannot_be_changed_while_they_are_compared(page: "Page", recording: Path) -> None:
    item = upload(page, recording)
    item.locator(".compare-open").click()
    asked: list[Route] = []
    page.route("**/v1/audio/transcriptions", lambda route: asked.append(route))
    item.locator(".run").click()
    selects = item.locator(".side select")
    for i in range(2):
        while len(asked) == i:
            page.wait_for_timeout(20)
        assert [select.is_disabled() for select in selects.all()] == [True, True]
        asked[i].continue_()
    page.wait_for_selector(".compare-state:text('times')")
    assert [select.is_disabled() for select in selects.all()] == [False, False]


def test_differences_between_two_texts_are_found(page: "Page") -> None:
    found = page.evaluate(
        "([a, b]) => import('/page/compare.js').then(({common}) => common(a, b))",
        [["the", "cat", "sat", "on", "a", "mat"], ["a", "cat", "sat", "upon", "the", "mat"]],
    )
    assert found == [
        [False, True, True, False, False, True],
        [False, True, True, False, False, True],
    ]


def test_a_server_with_one_model_says_how_to_compare(open_page: object, recording: Path) -> None:
    with in_thread(ServerOptions(models=(str(TRAINED),))) as server:
        page = open_page(server)  # type: ignore[operator]
        page.wait_for_selector("#model:enabled")
        item = upload(page, recording)
        item.locator(".compare-open").click()
        assert "one model" in item.locator(".compare").text_content()
