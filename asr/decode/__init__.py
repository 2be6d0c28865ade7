"""Log-probabilities (numpy) and lengths to words; knows no torch and no model."""
