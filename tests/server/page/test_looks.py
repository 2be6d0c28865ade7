"""For everybody: keyboard, screen reader, light and dark, a phone; and the rules of the page."""

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from browser import finished, until
from served import Served

if TYPE_CHECKING:
    from playwright.sync_api import Page

SEVERE = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")
BROKEN = {"name": "broken.mp3", "mimeType": "audio/mpeg", "buffer": b"not a recording"}


def fill(page: "Page", recording: Path) -> None:
    """All parts of the page at once: words, an error, the comparison, an edited word."""
    page.set_input_files("#files", [BROKEN])
    finished(page)
    page.set_input_files("#files", recording)
    finished(page, 2)
    page.locator(".words .word").nth(1).dblclick()
    page.keyboard.type("RIGHT")
    page.keyboard.press("Enter")
    page.locator(".compare-open").first.click()
    page.locator(".run").click()
    page.wait_for_selector(".compare-state:text('times')")


def problems_of(page: "Page") -> list[str]:
    """What axe-core, the checker of browsers' developer tools, finds."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page, options={"runOnly": {"type": "tag", "values": SEVERE}})
    return [
        f"{problem['id']}: {problem['help']}: {node['html']} {node['failureSummary']}"
        for problem in found.response["violations"]
        for node in problem["nodes"]
    ]


def keep(page: "Page", name: str, **options: object) -> None:
    """A screenshot for a person, if ASR_SCREENSHOTS names a folder."""
    if folder := os.environ.get("ASR_SCREENSHOTS"):
        path = Path(folder) / f"{name}.png"
        page.screenshot(**{"path": path, "full_page": True, **options})


@pytest.mark.parametrize(
    ("scheme", "width", "touch"), [("light", 1000, False), ("dark", 360, True)]
)
def test_labels_roles_and_contrast_in_light_on_a_desk_and_in_dark_on_a_phone(
    open_page: Callable[..., "Page"],
    server: Served,
    seen: SimpleNamespace,
    recording: Path,
    scheme: str,
    width: int,
    touch: bool,
) -> None:
    seen.expected = ["status of 4"]
    options = {"viewport": {"width": width, "height": 1300}, "has_touch": touch, "is_mobile": touch}
    page = open_page(server, color_scheme=scheme, **options)
    page.wait_for_selector("#model:enabled")
    keep(page, f"{scheme}-{width}-start")
    fill(page, recording)
    page.locator(".words .word").nth(4).click()
    page.wait_for_selector(".words .word:nth-child(5).now")
    page.keyboard.press("Escape")
    page.evaluate("scrollTo(0, 0)")
    end = page.locator(".item").first.bounding_box()
    assert end is not None
    clip = {"x": 0, "y": 0, "width": width, "height": end["y"] + end["height"] + 16}
    keep(page, f"{scheme}-{width}", clip=clip)
    for hidden in ("token-form", "outage"):
        page.evaluate("id => { document.getElementById(id).hidden = false; }", hidden)
    page.evaluate("document.querySelector('#outage p').textContent = 'The server is gone.'")
    keep(page, f"{scheme}-{width}-full")
    assert problems_of(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(18, 19, 24)"
    assert dark == (scheme == "dark")
    for button in page.locator("button:visible, select:visible").all():
        box = button.bounding_box()
        assert box is not None
        assert min(box["width"], box["height"]) >= 24  # WCAG 2.2: large enough to be hit


def test_the_panel_of_a_recording_is_readable_too(
    open_page: Callable[..., "Page"], server: Served
) -> None:
    page = open_page(server, color_scheme="dark", viewport={"width": 360, "height": 740})
    page.wait_for_selector("#model:enabled")
    page.locator("#record").click()
    page.wait_for_selector("#live:not([hidden])")
    until(page, "document.getElementById('stable').textContent.trim() !== ''")
    keep(page, "dark-live")
    assert problems_of(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.locator("#stop").click()
    finished(page)


def focused(page: "Page") -> str:
    return page.evaluate(
        "(({id, className, textContent}) => id || className || textContent)(document.activeElement)"
    )


def tab_to(page: "Page", name: str, most: int = 40) -> None:
    """Press Tab until the focus is there, checking that it can always be seen."""
    for _ in range(most):
        page.keyboard.press("Tab")
        assert page.evaluate(
            "getComputedStyle(document.activeElement).outlineStyle !== 'none' ||"
            " document.activeElement.matches('audio, body')"
        )
        if name in focused(page):
            return
    raise AssertionError(
        f"{name} cannot be reached with the Tab key; the focus is at {focused(page)}"
    )


def test_everything_can_be_done_with_the_keyboard(
    page: "Page", recording: Path, tmp_path: Path
) -> None:
    page.on("filechooser", lambda chooser: None)  # from now on: the browser is told without waiting
    tab_to(page, "model")
    tab_to(page, "choose-files")
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files(recording)
    finished(page)
    tab_to(page, "word")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    until(page, "!document.querySelector('audio').paused")
    page.keyboard.press("Escape")
    until(page, "document.querySelector('audio').paused")
    page.keyboard.press("F2")
    page.keyboard.type("typed")
    page.keyboard.press("Enter")
    assert page.locator(".words .word").nth(1).text_content() == "typed"
    assert page.evaluate("document.activeElement.textContent") == "typed"  # and go on from there
    tab_to(page, "txt", 1)
    with page.expect_download() as download:
        page.keyboard.press("Enter")
    download.value.save_as(tmp_path / "text")
    assert (tmp_path / "text").read_text(encoding="utf-8").split()[1] == "typed"
    tab_to(page, "undo")
    page.keyboard.press("Enter")
    assert page.locator(".words .word").nth(1).text_content() != "typed"
    tab_to(page, "compare-open")
    page.keyboard.press("Space")
    tab_to(page, "run")
    page.keyboard.press("Enter")
    page.wait_for_selector(".compare-state:text('times')")
    page.keyboard.press("Shift+Tab")
    for _ in range(30):
        if "remove" in focused(page):
            break
        page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    assert page.locator(".item").count() == 0
    assert focused(page) == "choose-files"
    tab_to(page, "record")
    page.keyboard.press("Enter")
    page.wait_for_selector("#live:not([hidden])")
    page.wait_for_timeout(1500)
    page.keyboard.press("Enter")  # the focus is on Stop
    finished(page)


def test_one_word_of_a_transcript_is_a_stop_of_the_tab_key(page: "Page", recording: Path) -> None:
    page.set_input_files("#files", recording)
    finished(page)
    stops = page.locator(".words [tabindex='0']")
    assert stops.count() == 1
    page.locator(".words .word").first.focus()
    page.keyboard.press("End")
    assert stops.count() == 1
    last = page.locator(".words .word").last.text_content()
    assert page.evaluate("document.activeElement.textContent") == last


def test_nothing_inline_or_foreign_is_in_the_page(
    page: "Page", server: Served, seen: SimpleNamespace
) -> None:
    import httpx

    seen.expected = ["Content Security Policy"]
    answer = httpx.get(server.url)
    assert "script-src 'self'" in answer.headers["content-security-policy"]
    for inline in ("<style", "style=", "onclick", "javascript:", "http://", "https://"):
        assert inline not in answer.text
    blocked = page.evaluate(
        """new Promise(resolve => {
            addEventListener("securitypolicyviolation", event => resolve(event.blockedURI));
            const image = new Image();
            image.src = "https://example.org/x.png";
        })"""
    )
    assert blocked == "https://example.org/x.png"
    page.wait_for_timeout(200)
    seen.hosts.discard("example.org")  # asked for above, and blocked by the browser
