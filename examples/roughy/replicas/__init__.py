"""What only several machines need: bytes in a bucket, rows in PostgreSQL."""
