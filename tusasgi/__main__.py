"""Lets `python -m tusasgi` do what the command `tusasgi` does."""

from tusasgi.server.command import main

if __name__ == "__main__":
    main()
