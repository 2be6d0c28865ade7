"""The recognisers that come with the package."""
