"""`python -m asr` is the command `asr`."""

from asr.cli.main import main

main()
