"""Complete applications built on tusasgi, to read and to copy from."""
