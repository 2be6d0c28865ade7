"""The one exception that means "a person can put this right"."""


class AsrError(Exception):
    """A mistake in what was asked or given: a file, an option, a setting, a recording.

    The message says what was wrong, where, and what to do. The command line prints it
    without a traceback and exits with status 2; anything else that is raised is our fault.
    """
