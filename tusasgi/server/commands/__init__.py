"""What the command `tusasgi` does besides serving, a module each."""
