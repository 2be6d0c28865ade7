"""Code that the benchmark scripts in the folder above share."""
