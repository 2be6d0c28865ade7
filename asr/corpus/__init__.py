"""Corpora: manifests, LibriSpeech, folders of your own, and what cannot be trained on."""
