"""What one run keeps, saves and says."""
