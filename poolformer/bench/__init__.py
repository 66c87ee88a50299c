"""Measurements of this package beside others."""
