"""The benchmarks run, and count right; what they measure is asserted nowhere."""

import base64
import socket
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path

import pytest

from benchmarks import __main__ as command
from benchmarks import apps, distant
from benchmarks._client import BLOCK, MIB, Client, UnexpectedAnswer
from benchmarks._server import asgi
from benchmarks._table import median_and_spread, number, ratio, table
from benchmarks.contenders import SERVE, Contender
from benchmarks.loads import Dose, percentile_99
from benchmarks.peers import CASES, Comparison


def test_a_figure_is_the_median_with_the_least_and_the_most() -> None:
    assert median_and_spread([3000.4, 1000, 1100]) == "1,100 (1,000-3,000)"
    assert median_and_spread([1.234, 1.2341]) == "1.23"


def test_a_figure_has_three_digits() -> None:
    assert [number(value) for value in (0.123, 12.34, 123.4, 12345)] == [
        "0.12",
        "12.3",
        "123",
        "12,345",
    ]


def test_a_ratio_is_of_figures_of_one_round() -> None:
    """The machine was half as quick in the last two rounds: the ratio of medians would be 0.5."""
    assert ratio([100, 50, 50], [100, 100, 50]) == "1.00"


def test_there_is_no_ratio_to_nothing() -> None:
    assert ratio([1, 2], [0, 0]) == "-"


def test_the_slowest_of_a_hundred() -> None:
    assert percentile_99([float(value) for value in range(101)]) == 99
    assert percentile_99([7]) == 7


def test_a_table_is_markdown() -> None:
    assert table(("what", "now"), [("HEAD", "1")]) == (
        "| what | now |\n| --- | ---: |\n| HEAD | 1 |"
    )


def test_a_scale_is_for_all_that_is_sent() -> None:
    assert Dose.of(0.5) == Dose(seconds=0.5, total=512 * MIB, slow_clients=500)
    assert Dose.of(0.0001) == Dose(seconds=0.0001, total=MIB, slow_clients=1)


def test_peers_are_where_options_say(capsys: pytest.CaptureFixture[str]) -> None:
    options = command.parser().parse_args(["peers", "--quick", "--tusd", "/somewhere/tusd"])
    (tusd,) = command._found_peers(options)
    assert (tusd.name, tusd.command[0]) == ("tusd", "/somewhere/tusd")
    assert options.scale == 0.2
    assert capsys.readouterr().out.splitlines() == [
        "Without rustus: --rustus says where it is.",
        "Without tus-node: --tus-node says where it is.",
        "Without tuspyserver: --tuspyserver says where it is.",
    ]


def _answering(answer: bytes) -> Client:
    """Return a client whose next request is answered so, a byte at a time, and then no more."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with listener, listener.accept()[0] as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.recv(MIB)
            for position in range(len(answer)):
                connection.sendall(answer[position : position + 1])

    threading.Thread(target=serve).start()
    return Client(listener.getsockname()[1])


@pytest.mark.parametrize(
    "head_and_body",
    [
        b"Content-Length: 5\r\n\r\nhello",
        b"transfer-encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
    ],
    ids=["length", "chunked"],
)
def test_the_client_reads_a_whole_answer(head_and_body: bytes) -> None:
    with _answering(b"HTTP/1.1 200 OK\r\nX-A:  b \r\n" + head_and_body) as client:
        answer = client.request("GET", "/", 200)
        assert (answer.field("x-a"), answer.body) == ("b", b"hello")


@pytest.mark.parametrize("location", ["/files/1", "http://host:80/files/1"])
def test_the_client_asks_on_its_connection_wherever_an_upload_says_it_is(location: str) -> None:
    with _answering(f"HTTP/1.1 201 Created\r\nLocation: {location}\r\n\r\n".encode()) as client:
        assert client.create("/files/", 1) == "/files/1"


@pytest.mark.parametrize(
    "answer",
    [b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n", b"HTTP/1.1 204 No"],
    ids=["another status", "half an answer"],
)
def test_the_client_refuses(answer: bytes) -> None:
    with _answering(answer) as client, pytest.raises(UnexpectedAnswer):
        client.patch("/files/1", 0, 10)


# The servers take longer to start than all that is asked of them.
CHEAP_CASES = [replace(case, setups=(SERVE,), has_one_core=True) for case in CASES]


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What `peers` says of a server that does all, and of one that does nothing that is asked."""
    floor = asgi("uvicorn", "benchmarks.apps:app", "--factory")
    nothing = [*floor[:2], "http.server", "--bind", "127.0.0.1", "{port}"]
    root = str(Path(__file__).parent.parent)
    lines: list[str] = []
    Comparison(
        kinds=["uvicorn"],
        peers=[
            Contender("all", floor, "/", working_folder=root, environment={"SETUP": "floor"}),
            Contender("nothing", nothing, "/"),
        ],
        rounds=1,
        scale=0.001,
        show=lines.append,
        cases=CHEAP_CASES,
    ).run([str(tmp_path_factory.mktemp("uploads"))])
    return lines


def test_peers_measures_everything_beside_everyone(shown: list[str]) -> None:
    head, _, *rows = shown[-1].strip().splitlines()[2:]
    assert [cell.strip() for cell in head.split("|")[1:-1]] == [
        "", "tusasgi", "floor", "of floor", "all", "of all", "nothing", "of nothing",
    ]  # fmt: skip
    cells = [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows]
    assert {name for name, *_ in cells} >= {
        "64 KiB PATCH: per second",
        "HEAD: per second",
        "create: CPU, ms each",
        "one PATCH: MiB/s",
        "16 MiB PATCHes: CPU, s/GiB",
        "16 clients, 8 MiB PATCHes: HEAD p99, ms",
        "many slow PATCHes: RSS, MiB",
    }
    for _, ours, floor, of_floor, other, of_other, *nothing in cells:
        assert "-" not in (ours, floor, other)
        assert nothing == ["-", "-"]
        assert all(value == "-" or float(value) >= 0 for value in (of_floor, of_other))


@pytest.mark.parametrize("setup", apps.SETUPS)
def test_an_app_can_be_run_by_name(
    setup: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SETUP", setup)
    monkeypatch.setenv("FOLDER", str(tmp_path))
    assert callable(apps.app())


def test_what_is_asked_is_asked_of_apps_that_there_are() -> None:
    assert {setup for case in CASES for setup in case.setups} <= {*apps.SETUPS, SERVE}


def test_a_peer_that_answers_otherwise_is_left_out_with_a_line(shown: list[str]) -> None:
    assert [line.partition(":")[0] for line in shown[1:-1]] == [
        f"nothing, {case.name}" for case in CASES
    ]


@pytest.fixture
def far_bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[HTTPConnection]:
    monkeypatch.setattr(distant, "ROUND_TRIP", 0.1)
    monkeypatch.setattr(distant, "RATE", 10e6)
    with distant._Bucket(0) as bucket:
        threading.Thread(target=bucket.serve_forever, args=(0.01,)).start()
        with closing(HTTPConnection("127.0.0.1", bucket.server_port)) as connection:
            yield connection
        bucket.shutdown()


def _put(bucket: HTTPConnection, content: bytes, target: str = "/far/it", **fields: str) -> int:
    crc32 = base64.b64encode(zlib.crc32(content).to_bytes(4, "big")).decode()
    named = {name.replace("_", "-"): value for name, value in fields.items()}
    bucket.request("PUT", target, content, {"x-amz-checksum-crc32": crc32, **named})
    with bucket.getresponse() as answer:
        answer.read()
        return answer.status


def test_a_bucket_far_away_takes_its_time(far_bucket: HTTPConnection) -> None:
    start = time.monotonic()
    assert _put(far_bucket, BLOCK, "/far/it?partNumber=1") == 200
    assert time.monotonic() - start > 0.1 + MIB / 10e6


def test_a_bucket_far_away_takes_what_is_whole_and_follows_on_what_is_there(
    far_bucket: HTTPConnection,
) -> None:
    assert _put(far_bucket, b"one", x_amz_checksum_crc32="AAAAAA==") == 400
    assert _put(far_bucket, b"one", If_None_Match="*") == 200
    assert _put(far_bucket, b"two", If_None_Match="*") == 412
    assert _put(far_bucket, b"two", If_Match='"another"') == 412
    far_bucket.request("GET", "/far/it")
    with far_bucket.getresponse() as answer:
        assert answer.read() == b"one"
        etag = answer.headers["ETag"]
    assert _put(far_bucket, b"two", If_Match=etag) == 200
