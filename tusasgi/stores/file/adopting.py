"""A file of somebody else that becomes the bytes of an upload, by a second name for it. Blocks.

The record comes first, as everywhere in this store, and is locked until the bytes have their name.
A crash between the two leaves an upload without its bytes, and the same call goes on with it.
"""

import os
from dataclasses import replace

from tusasgi.errors import UploadExists
from tusasgi.models import Upload
from tusasgi.stores import WriteConflict
from tusasgi.stores.due import hours_of
from tusasgi.stores.file import files
from tusasgi.stores.file.directory import Directory
from tusasgi.stores.file.locked import LockedUpload, name_record
from tusasgi.stores.file.records import Record


def adopt(directory: Directory, upload: Upload, path: str) -> bool:
    """Make the file the bytes of a new upload; see `FileStore.adopt`."""
    file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        if os.fstat(file).st_size != upload.offset:
            raise WriteConflict("the file is being written to")
        directory.flush(file)
        return _adopt(directory, upload, path, file)
    finally:
        os.close(file)


def _adopt(directory: Directory, upload: Upload, path: str, file: int) -> bool:
    flushed, boot, expires = upload.offset, directory.boot, upload.expires
    record = Record(upload=upload, flushed=flushed, boot=boot, expires=expires)
    new = directory.write_new(record, is_durable=False)
    try:
        for hour in hours_of(upload):
            directory.mark(upload.id, hour, new.path)
        name_record(directory, upload.id, new)
        _link(directory, upload.id, path, file)
        return True
    except (FileExistsError, WriteConflict):
        return _go_on(directory, upload, path, file)
    finally:
        files.close_locked(new.file)
        files.unlink_if_there(new.path)


def _link(directory: Directory, upload_id: str, path: str, file: int) -> None:
    """Give the bytes their name, or take that of the record away again."""
    target = directory.path(upload_id)
    try:
        os.link(path, target, follow_symlinks=False)
        directory.give_away(file)
    except OSError:
        files.unlink_if_there(f"{target}.info")
        raise


def _go_on(directory: Directory, upload: Upload, path: str, file: int) -> bool:
    """Adopt the file for a record that a crash has left without; False if it was adopted."""
    with LockedUpload(directory, upload.id) as locked:
        stored = locked.read()
        bytes_there = files.stat_of(locked.path)
        if bytes_there is not None and os.path.samestat(bytes_there, os.fstat(file)):
            if stored.length is None and upload.length is not None:  # declared since
                locked.put(replace(stored, length=upload.length))
            return False
        if bytes_there is None and stored.created == upload.created and stored.removal is None:
            os.link(path, locked.path, follow_symlinks=False)
            directory.give_away(file)
            return True
    raise UploadExists("an upload with this id exists already, and has other bytes")
