"""What the tests of the page do with it."""

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

INSECURE = "here.test"
"""A name of this machine in the browser of the tests: http to it is as insecure as to others."""

SENTENCES = (
    "TURN RIGHT AT THE STATION AND GO ON TO THE SCHOOL",
    "I WANT A CUP OF TEA WITH CHICKEN",
)
"""Of the built-in corpus: what is said in the recording of the tests."""


def until(page: "Page", expression: str, arg: Any = None, seconds: float = 15) -> None:
    """Wait until a JavaScript expression, or a function of `arg`, is true.

    Playwright's `wait_for_function` needs `eval`, which the page's policy forbids.
    """
    deadline = time.monotonic() + seconds
    while not page.evaluate(expression, arg):
        assert time.monotonic() < deadline, f"still not true: {expression} {arg or ''}"
        page.wait_for_timeout(50)


def shown(page: "Page", selector: str, part: str = "") -> str:
    """The text of the first such element, once it can be seen and has a certain part."""
    box = page.locator(f"{selector}:visible", has_text=part).first
    box.wait_for()
    return box.text_content() or ""


def upload(page: "Page", *files: Any) -> "Locator":
    """The items of the list once all files are transcribed or refused."""
    page.set_input_files("#files", list(files))
    finished(page, len(files))
    return page.locator(".item")


def finished(page: "Page", count: int = 1) -> None:
    """Wait until so many recordings are transcribed or refused."""
    until(
        page,
        "count => document.querySelectorAll('.result:not([hidden]), .problem:not([hidden])').length"
        " >= count",
        count,
    )


def words_of(item: "Locator") -> list[str]:
    """The words of one transcript."""
    return item.locator(".words .word").all_text_contents()
