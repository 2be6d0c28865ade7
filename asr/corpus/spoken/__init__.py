"""The built-in corpus of synthetic speech and its synthesisers."""
