"""Dense against sparse on this machine: timing, the dense alternatives, records and tables."""
