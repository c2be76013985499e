"""Lets `python -m tusasgi` do what the command `tusasgi` does."""

from tusasgi._cli import main

if __name__ == "__main__":
    main()
