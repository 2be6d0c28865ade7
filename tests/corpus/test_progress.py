"""Progress in bytes, in the log of a job and on a terminal."""

import io
import re

from rich.console import Console

from asr.corpus.progress import Meter


def test_a_log_gets_lines_with_speed_and_time_left(capsys, monkeypatch):
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    with Meter("a.tar.gz", 10_000_000) as meter:
        meter.update(2_000_000)  # an earlier call's
        for done in range(3_000_000, 10_000_000, 1_000_000):
            now[0] += 10
            meter.update(done)
    assert capsys.readouterr().err.splitlines() == [
        "a.tar.gz: 5.0 MB of 10.0 MB (50 %), 100.0 kB/s, 0:00:50 left",
        "a.tar.gz: 8.0 MB of 10.0 MB (80 %), 100.0 kB/s, 0:00:20 left",
    ]


def test_a_size_that_is_not_known_leaves_the_time_out(capsys):
    with Meter("a.tar.gz", every=0) as meter:
        meter.update(0)
    assert re.fullmatch(r"a\.tar\.gz: 0 bytes, 0 bytes/s\n", capsys.readouterr().err)


def test_a_terminal_shows_a_bar():
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100)
    with Meter("a.tar.gz", 10_000_000, console=console) as meter:
        meter.update(2_000_000)
        meter._bar.refresh()
    assert "2.0/10.0 MB" in screen.getvalue()
