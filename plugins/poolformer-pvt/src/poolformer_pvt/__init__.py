"""PVT v1 (arXiv 2102.12122) for poolformer, which finds it by the entry points in ``pyproject.toml``."""
