"""The receiver of messages, over HTTP: what it says within bounds, or why that is of no use."""

import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import anyio

from tusasgi.arguments import needs_extra
from tusasgi.webhooks.messages import Answer, Unusable
from tusasgi.webhooks.signing import signed

with needs_extra("hooks"):
    import httpx

_LONGEST = 64 * 1024  # bytes of an answer
_MOST_WAIT = 3600  # seconds that an answer may ask for
_CONNECTIONS = httpx.Limits(max_connections=64, max_keepalive_connections=16)


class Receiver:
    """Sends messages to one URL; no redirect leads anywhere else."""

    def __init__(self, url: str, *, keys: Sequence[bytes], timeout: float) -> None:
        self._url = url
        self._keys = keys
        self._timeout = timeout
        self._client = httpx.AsyncClient(
            timeout=timeout, limits=_CONNECTIONS, follow_redirects=False
        )

    async def aclose(self) -> None:
        await self._client.aclose()

    async def post(self, body: bytes, message_id: str, more: Mapping[str, str]) -> Answer:
        """Send a message once, and return the answer unless the receiver fails.

        Raises `Unusable` for one that does not answer in time or in full, or with a 3xx or 5xx.
        """
        now = int(time.time())
        headers = {
            **more,
            "content-type": "application/json",
            "accept-encoding": "identity",
            **signed(self._keys, message_id=message_id, timestamp=now, body=body),
        }
        try:
            with anyio.fail_after(self._timeout):
                answer = await self._send(body, headers)
        except TimeoutError:
            raise Unusable(f"no answer within {self._timeout:g} seconds") from None
        except httpx.HTTPError as error:
            raise Unusable(f"{type(error).__name__}: {error}".rstrip(": ")) from error
        if not (200 <= answer.status < 300 or 400 <= answer.status < 500):
            raise Unusable(f"it answers {answer.status}", retry_after=retry_after(answer))
        return answer

    async def _send(self, body: bytes, headers: Mapping[str, str]) -> Answer:
        sending = self._client.stream("POST", self._url, content=body, headers=headers)
        async with sending as response:
            if response.headers.get("content-encoding", "identity") != "identity":
                raise Unusable("its answer is compressed, which nobody asked for")
            content = await _content_of(response)
            return Answer(status=response.status_code, headers=dict(response.headers), body=content)


async def _content_of(response: httpx.Response) -> bytes:
    """Return the content; what is too long is read to its end, or to the time-out, and dropped.

    Whoever leaves the iteration before leaves generators behind, which trio wants to be closed.
    """
    content, size = b"", 0
    async for chunk in response.aiter_raw():
        size += len(chunk)
        content = content + chunk if size <= _LONGEST else b""
    if size > _LONGEST:
        raise Unusable(f"its answer has more than {_LONGEST} bytes")
    return content


def retry_after(answer: Answer) -> int | None:
    """Return after how many seconds the receiver wants to be asked again, if it says so."""
    text = answer.headers.get("retry-after", "")
    if text.isascii() and text.isdecimal():
        return min(int(text[:9]), _MOST_WAIT)
    try:
        seconds = (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds()
    except (TypeError, ValueError):
        return None
    return min(max(int(seconds), 0), _MOST_WAIT)
