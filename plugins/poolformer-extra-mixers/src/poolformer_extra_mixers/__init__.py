"""Token mixers of nine papers for poolformer, which finds them by the entry points in ``pyproject.toml``."""
