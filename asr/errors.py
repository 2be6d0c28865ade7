"""`AsrError`, the exception for mistakes that a person can fix, and what messages are made of."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Check = Callable[[bool, str], None]


class AsrError(Exception):
    """A mistake in what was asked or given: a file, an option, a setting, a recording.

    The message says what was wrong, where, and what to do. The command line prints it
    without a traceback and exits with status 2. Any other exception is a bug.
    """


@contextmanager
def problems() -> Iterator[Check]:
    """Yield `check(condition, message)`; raise one AsrError with all messages that failed."""
    found: list[str] = []

    def check(condition: bool, message: str) -> None:
        if not condition:
            found.append(message)

    yield check
    if found:
        raise AsrError("\n".join(found))


def install(extras: str) -> str:
    """How to get extras of this package; `asr` on PyPI is another project."""
    return f"pip install '.[{extras}]' in the checkout of asr"


def counted(count: int, noun: str) -> str:
    """`1 word`, `2,000 words`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
