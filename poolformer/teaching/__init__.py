"""A trained network that teaches others: asked once for every view of a schedule."""
