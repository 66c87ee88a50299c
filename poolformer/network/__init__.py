"""The frame, its token mixers, and how they are computed."""
