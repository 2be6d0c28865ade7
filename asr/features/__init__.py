"""Waveform -> log-mel features: one settings dataclass, implemented in C, in numpy and in torch."""
