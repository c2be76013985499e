"""Uploads in a bucket of an S3 server."""

from tusasgi.arguments import needs_extra

with needs_extra("s3"):
    from tusasgi.stores.s3.manifest import Integrity
    from tusasgi.stores.s3.store import S3Object, S3Store

__all__ = ["Integrity", "S3Object", "S3Store"]
