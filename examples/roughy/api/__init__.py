"""The REST endpoints, and what they share: errors, validation, pages of lists, URLs."""
