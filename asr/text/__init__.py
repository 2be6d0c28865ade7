"""Text: normal forms, tokenizers, and the reader of text files."""
