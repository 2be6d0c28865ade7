"""Word n-gram language models: trained, read, written, searched."""
