"""Semantic FPN and RetinaNet on poolformer's backbones (arXiv 2111.11418, tables 3 and 4), with any token mixer."""
