"""Uploads as local files."""

from tusasgi.stores.file.store import Durability, FileStore

__all__ = ["Durability", "FileStore"]
