"""What a power cut leaves in a file store: looked for once, by the first sweep after a restart.

Creations and marks are not flushed, as nothing that was acknowledged needs them. So any of them
may be missing when the machine is started anew: an upload without its mark, which no sweep would
find; bytes whose record is gone; a record that has its name and nothing in it.
"""

import contextlib
import os

from tusasgi.errors import UploadNotFound
from tusasgi.models import Upload, is_upload_id
from tusasgi.stores import WriteConflict
from tusasgi.stores.due import NOW, hours_of
from tusasgi.stores.file import files
from tusasgi.stores.file.directory import Directory
from tusasgi.stores.file.locked import remove_lost, remove_remains
from tusasgi.stores.records import UNREADABLE


class Recovery:
    """Looks through all uploads, folder by folder. Blocks: for worker threads."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._has_marked_all = True

    def is_needed(self) -> bool:
        """True until `end` was called in this run of the machine.

        Or in this process, where the system has no name for the runs of the machine.
        """
        boot = self._directory.boot
        return not self._directory.is_recovered and (
            boot is None or not os.path.isdir(self._sign(boot))
        )

    def look_through(self, folder: str) -> None:
        """Mark what is in a folder of uploads, and remove what has lost its record."""
        for name in files.files_in(os.path.join(self._directory.root, "uploads", folder)):
            upload_id = name.removesuffix(".info")
            if is_upload_id(upload_id):
                with contextlib.suppress(WriteConflict):  # somebody is at work on it: it is there
                    if name == upload_id:
                        remove_remains(self._directory, upload_id)
                    else:
                        self._look_at(upload_id)

    def end(self) -> None:
        """Note that all folders were looked through, unless a full disk took no mark."""
        if not self._has_marked_all:
            return
        self._directory.is_recovered = True
        if self._directory.boot is not None:
            with files.unless_full():
                self._directory.make_folder(self._sign(self._directory.boot))

    def _sign(self, boot: str) -> str:
        return os.path.join(self._directory.root, "recovered", boot)

    def _look_at(self, upload_id: str) -> None:
        try:
            upload = self._directory.load(upload_id).upload
        except UploadNotFound:
            remove_lost(self._directory, upload_id)
        except UNREADABLE:
            return  # it cannot be known when it is due
        else:
            self._mark(upload)

    def _mark(self, upload: Upload) -> None:
        is_marked = False
        hours = hours_of(upload)
        if upload.is_handed_over and os.path.exists(self._directory.path(upload.id)):
            hours = hours | {NOW}  # its own name of the bytes is to be removed
        with files.unless_full():
            for hour in hours:
                self._directory.mark(upload.id, hour)
            is_marked = True
        self._has_marked_all &= is_marked
