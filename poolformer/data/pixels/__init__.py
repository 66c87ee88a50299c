"""What happens to the pixels of an image."""
