"""Waveform -> log-mel features: one settings dataclass, two implementations (numpy, torch)."""
