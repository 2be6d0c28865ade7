"""The network: its dimensions, its file, and two backends that run it: torch, and C."""
