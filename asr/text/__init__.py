"""Text: normal forms, tokenizers, and readers of text files."""
