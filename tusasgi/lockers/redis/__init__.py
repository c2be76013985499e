"""Locks between machines."""

from tusasgi.lockers.redis.locker import RedisLocker

__all__ = ["RedisLocker"]
