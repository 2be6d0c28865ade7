"""The recognisers that come with the package, and what finds them by name."""
