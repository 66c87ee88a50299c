"""Text for poolformer: a backbone of bytes and three data modules, found by the entry points in ``pyproject.toml``."""
