"""Every setting of a training run as frozen dataclasses, and how YAML files become them."""
