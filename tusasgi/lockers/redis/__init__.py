"""Locks between machines."""

from tusasgi.arguments import needs_extra

with needs_extra("redis"):
    from tusasgi.lockers.redis.locker import RedisLocker

__all__ = ["RedisLocker"]
