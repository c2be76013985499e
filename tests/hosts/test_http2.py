"""Over HTTP/2 several uploads share a connection: what is refused must not end the others."""

import socket
import time
from collections.abc import Callable, Iterator

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, DataReceived, ResponseReceived, StreamEnded

from tests.hosts._process import Server
from tests.hosts._wire import UPLOAD, Client

MIB = 1024 * 1024


class Shared:
    """A connection with prior knowledge, and what came over it so far by stream."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), 10)
        self._h2 = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
        self._h2.initiate_connection()
        self._authority = f"127.0.0.1:{port}"
        self.is_alive = True
        self.statuses: dict[int, int] = {}
        self.ended: set[int] = set()

    def close(self) -> None:
        self._socket.close()

    def patch(self, path: str, size: int, **headers: str) -> int:
        """Begin a PATCH and return its stream."""
        stream = self._h2.get_next_available_stream_id()
        own = {**UPLOAD, "Upload-Offset": "0", "Content-Length": str(size), **headers}
        head = [(":method", "PATCH"), (":path", path), (":scheme", "http")]
        head.append((":authority", self._authority))
        self._h2.send_headers(stream, head + [(name.lower(), own[name]) for name in own])
        return stream

    def send(self, stream: int, size: int, *, is_end: bool = False) -> None:
        """Send so many zeros, as fast as the server lets us."""
        give_up = time.monotonic() + 30
        while size and self.is_alive:
            assert time.monotonic() < give_up, "the server takes no more"
            window = self._h2.local_flow_control_window(stream)
            piece = min(size, window, self._h2.max_outbound_frame_size)
            if piece > 0:
                size -= piece
                self._h2.send_data(stream, bytes(piece), end_stream=is_end and not size)
            self.turn(0.0001 if piece > 0 else 0.05)

    def turn(self, seconds: float = 0.05) -> None:
        """Send what is due, and take what has come."""
        self._socket.sendall(self._h2.data_to_send())
        self._socket.settimeout(seconds)
        try:
            received = self._socket.recv(65536)
        except TimeoutError:
            return
        self.is_alive = self.is_alive and bool(received)
        for event in self._h2.receive_data(received):
            if isinstance(event, ResponseReceived):
                self.statuses[event.stream_id] = int(dict(event.headers)[":status"])
            elif isinstance(event, DataReceived):
                self._h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            elif isinstance(event, StreamEnded):
                self.ended.add(event.stream_id)
            elif isinstance(event, ConnectionTerminated):
                self.is_alive = False
        self._socket.sendall(self._h2.data_to_send())

    def turn_until(self, is_true: Callable[[], bool]) -> None:
        give_up = time.monotonic() + 10
        while not is_true():
            assert self.is_alive, "the server has ended the connection"
            assert time.monotonic() < give_up, "it did not come true"
            self.turn()


@pytest.fixture
def shared(server: Server) -> Iterator[Shared]:
    if server.name.startswith("uvicorn"):
        pytest.skip("uvicorn does not speak HTTP/2")
    connection = Shared(server.port)
    yield connection
    connection.close()


@pytest.mark.parametrize("size", [30_000, 1_000_000, 20 * MIB])
def test_a_refusal_leaves_the_other_uploads_of_the_connection_alone(
    shared: Shared, client: Client, size: int
) -> None:
    good_path, bad_path = client.create(1000), Client(client.port, "/picky/").create(size)
    good = shared.patch(good_path, 1000)
    shared.send(good, 500)
    bad = shared.patch(bad_path, size, Authorization="Bearer 409")
    shared.send(bad, size // 2)
    shared.turn_until(lambda: shared.statuses.get(bad) == 409)  # told before all was sent
    shared.send(bad, size - size // 2, is_end=True)
    shared.send(good, 500, is_end=True)
    shared.turn_until(lambda: {good, bad} <= shared.ended)
    assert shared.statuses == {good: 204, bad: 409}
    assert client.offset(good_path) == 1000
