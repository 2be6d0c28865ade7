"""Waveform -> log-mel features: one settings dataclass, implemented in numpy and in torch."""
