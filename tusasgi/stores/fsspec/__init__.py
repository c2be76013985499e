"""Uploads in any filesystem of fsspec."""

from tusasgi.stores.fsspec.store import FsspecStore

__all__ = ["FsspecStore"]
