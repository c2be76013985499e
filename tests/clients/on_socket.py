"""tuspy through a unix socket, which it knows nothing of: all that `requests` sends goes there.

SOCKET=PATH python on_socket.py ENDPOINT FILE
"""

import os
import runpy
import socket
from pathlib import Path
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool


class _Connection(HTTPConnection):
    def _new_conn(self) -> socket.socket:
        made = socket.socket(socket.AF_UNIX)
        made.connect(os.environ["SOCKET"])
        return made


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _Adapter(HTTPAdapter):
    def init_poolmanager(self, *arguments: Any, **more: Any) -> None:
        super().init_poolmanager(*arguments, **more)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool}


requests.sessions.HTTPAdapter = _Adapter
runpy.run_path(str(Path(__file__).with_name("once.py")), run_name="__main__")
