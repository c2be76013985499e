"""What happens to a complete file: it is measured, charged, and made ready."""
