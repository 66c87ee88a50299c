"""ffcv's own loader for poolformer, which finds it by the entry point in ``pyproject.toml``."""
