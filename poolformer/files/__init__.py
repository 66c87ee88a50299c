"""How files are named, locked and written."""
