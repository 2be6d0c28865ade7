"""Word error rates, comparisons of two results, calibrated confidences."""
