"""A process that stores a part of an upload and is killed in the middle of the next."""

import sys

import anyio

from tusasgi import TusApp, Uploads
from tusasgi.stores.file import FileStore
from tusasgi.testing import ScriptedExchange

PATTERN = bytes(range(251)) * 4000


async def main(folder: str, upload_id: str) -> None:
    app = TusApp(Uploads(FileStore(folder)))
    first = _patch(app, upload_id, 0, PATTERN[:300_000])
    answer = await first.run()
    print("acknowledged", answer.headers["upload-offset"], flush=True)
    second = _patch(app, upload_id, 300_000)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(second.run)
        for start in range(300_000, 500_000, 50_000):
            second.feed(PATTERN[start : start + 50_000])
        await second.starved()
        print("receiving", flush=True)
        await anyio.sleep_forever()


def _patch(app: TusApp, upload_id: str, offset: int, body: bytes | None = None) -> ScriptedExchange:
    headers = {
        "Tus-Resumable": "1.0.0",
        "Upload-Offset": str(offset),
        "Content-Type": "application/offset+octet-stream",
    }
    return ScriptedExchange(app, "PATCH", f"/{upload_id}", headers=headers, body=body)


if __name__ == "__main__":
    anyio.run(main, *sys.argv[1:])
