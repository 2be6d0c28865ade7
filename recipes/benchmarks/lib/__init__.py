"""What the benchmark scripts in the folder above have in common."""
