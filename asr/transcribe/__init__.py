"""Recordings -> transcripts: the one path that the command line, Python and evaluation use."""
