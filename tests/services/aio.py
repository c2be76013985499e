"""An aiobotocore client for a server or for the proxy before it, with nothing left to chance."""

import functools
from contextlib import AbstractAsyncContextManager
from typing import Any

from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession

from tests.services.s3 import S3Server


def s3_client(
    server: S3Server, endpoint: str | None = None, *, attempts: int = 1, **options: Any
) -> AbstractAsyncContextManager[Any]:
    """A client whose botocore makes as many attempts as it is told, by default one.

    Each attempt is two for aiohttp: it repeats a PUT, GET, HEAD or DELETE once if the connection
    ends without an answer, and tells nobody. A fault that the client is to see takes `times=2`.
    """
    config = AioConfig(
        signature_version="s3v4",
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": "path", "payload_signing_enabled": False},
        retries={"mode": "standard", "total_max_attempts": attempts},
        **{"connect_timeout": 5, "read_timeout": 20, **options},
    )
    client: AbstractAsyncContextManager[Any] = _session().create_client(
        "s3",
        endpoint_url=endpoint or server.endpoint,
        aws_access_key_id=server.key,
        aws_secret_access_key=server.secret,
        region_name=server.region,
        config=config,
    )
    return client


@functools.cache
def _session() -> AioSession:
    # It reads its description of S3, which takes 0.3 s, once.
    return AioSession()
