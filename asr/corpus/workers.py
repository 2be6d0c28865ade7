"""Worker processes."""

import os
import sys
import threading
import time
from multiprocessing import get_all_start_methods, parent_process

FORKS = "fork" in get_all_start_methods() and sys.platform != "darwin"
"""Whether processes can be forked; libraries of macOS may crash in one that was."""


def end_with_parent(_: int = 0) -> None:
    """In a worker process: end when the process that started it is killed.

    Otherwise it would wait for work, or for room in a pipe, for ever. Of processes that are forked
    only the parent's id tells, because other workers keep its pipes open; of those that a server
    forks (`forkserver`) only the pipe, because the server may outlive the parent.
    """
    parent, first = parent_process(), os.getppid()
    if parent is None:
        return

    def watch() -> None:
        while parent.is_alive() and os.getppid() == first:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
