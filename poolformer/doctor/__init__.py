"""``poolformer doctor``: what is there of all that a run needs. Not what a run itself checks at its start."""
