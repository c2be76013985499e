"""A folder as tusd writes it (`-upload-dir`), after what its documentation says of the format."""

import json
from pathlib import Path
from typing import Any

UNFINISHED = "0" * 31 + "1"
COMPLETE = "0" * 31 + "2"
DEFERRED = "0" * 31 + "3"
PARTS = ("0" * 31 + "4", "0" * 31 + "5")
FINAL = "0" * 31 + "6"
EMPTY = "0" * 31 + "7"
ALL = {UNFINISHED, COMPLETE, DEFERRED, *PARTS, FINAL, EMPTY}


def write_upload(
    folder: Path, upload_id: str, data: bytes | None, length: int | None, **more: Any
) -> None:
    """Write an upload: its bytes, unless they are None, and its document."""
    path = folder / upload_id
    path.parent.mkdir(parents=True, exist_ok=True)
    if data is not None:
        path.write_bytes(data)
    info = {
        "ID": upload_id,
        "Size": length or 0,
        "SizeIsDeferred": length is None,
        "Offset": 0,  # whatever the size of the file is
        "MetaData": {},
        "IsPartial": False,
        "IsFinal": False,
        "PartialUploads": None,
        "Storage": {"InfoPath": f"{path}.info", "Path": str(path), "Type": "filestore"},
        **more,
    }
    Path(f"{path}.info").write_text(json.dumps(info))


def write_folder(folder: Path) -> Path:
    """Write one upload of each kind."""
    metadata = {"MetaData": {"filename": "naïve.txt", "empty": ""}}
    write_upload(folder, UNFINISHED, b"hello", 11, **metadata)
    write_upload(folder, COMPLETE, b"world", 5)
    write_upload(folder, DEFERRED, b"abc", None)
    for part, data in zip(PARTS, (b"one", b"two"), strict=True):
        write_upload(folder, part, data, 3, IsPartial=True)
    write_upload(folder, FINAL, b"onetwo", 6, IsFinal=True, PartialUploads=list(PARTS))
    write_upload(folder, EMPTY, b"", 0)
    return folder
