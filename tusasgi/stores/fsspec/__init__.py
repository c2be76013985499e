"""Uploads in any filesystem of fsspec."""

from tusasgi.arguments import needs_extra

with needs_extra("fsspec"):
    from tusasgi.stores.fsspec.store import FsspecStore

__all__ = ["FsspecStore"]
