"""Products and recurrent layers of sparse matrices on a CPU, in C with numpy twins."""
