"""Speech recognition with CTC networks that are pruned while they train."""

__version__ = "0.1.0"
