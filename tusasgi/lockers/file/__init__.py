"""Locks between the processes of one machine."""

from tusasgi.lockers.file.locker import FileLocker

__all__ = ["FileLocker"]
