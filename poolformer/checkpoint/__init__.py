"""What weights are read from and written to."""
