"""Sockets of a path, sockets of systemd, and certificates: what is used, and what is refused."""

import contextlib
import errno
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
)

from tests.hosts._process import ROOT
from tests.server._keys import SECRET, certificate, ec_key, private_pem, rsa_key
from tusasgi.server import listening
from tusasgi.server.checks import check_certificate, check_credentials
from tusasgi.server.listening import CannotListen, inherited_listener, unix_listener
from tusasgi.server.settings import DEFAULTS, Settings
from tusasgi.server.values import Address


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "socket"


def is_listened_on(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


# A socket of a path.


def test_it_is_for_user_and_group_and_gone_at_the_end(path: Path) -> None:
    with unix_listener(str(path)) as listener:
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
        assert is_listened_on(path)
        assert (listener.path, listener.address) == (str(path), None)
    assert not path.exists()


def test_one_that_a_killed_server_left_is_replaced(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    assert path.exists()
    with unix_listener(str(path)):
        assert is_listened_on(path)


def test_one_on_which_somebody_listens_is_left_alone(path: Path) -> None:
    with unix_listener(str(path)):
        with (
            pytest.raises(CannotListen, match=f"cannot listen on {path}: another server listens"),
            unix_listener(str(path)),
        ):
            pass
        assert is_listened_on(path)


def test_one_whose_server_has_too_much_to_do_is_left_alone(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as busy, contextlib.ExitStack() as stack:
        busy.bind(str(path))
        busy.listen(0)
        while True:  # until its queue is full
            waiting = stack.enter_context(socket.socket(socket.AF_UNIX))
            waiting.setblocking(False)
            if waiting.connect_ex(str(path)) == errno.EAGAIN:
                break
        with pytest.raises(CannotListen, match="another server"), unix_listener(str(path)):
            pass
        assert path.exists()


def test_what_is_no_socket_is_left_alone(path: Path) -> None:
    path.write_text("precious")
    with pytest.raises(CannotListen, match="it is there, and is no socket"):
        unix_listener(str(path)).__enter__()
    assert path.read_text() == "precious"


def test_the_socket_of_a_successor_is_not_removed(path: Path) -> None:
    with unix_listener(str(path)):
        path.unlink()
        path.write_text("another's")
    assert path.exists()


@pytest.mark.parametrize(
    ("name", "reason"),
    [("nowhere/socket", "No such file or directory"), ("a" * 200, "AF_UNIX path too long")],
)
def test_a_path_that_cannot_be_says_why(name: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(CannotListen, match=f"cannot listen on .*: {reason}"):
        unix_listener(str(tmp_path / name)).__enter__()


# A socket of systemd.


@pytest.fixture
def first(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """What is given first."""
    with socket.socket() as made:
        monkeypatch.setattr(listening, "_FIRST_DESCRIPTOR", made.fileno())
        yield made
        with contextlib.suppress(OSError):
            made.detach()


def given(count: str = "1", process: int | None = None) -> dict[str, str]:
    process = os.getpid() if process is None else process
    return {"LISTEN_PID": str(process), "LISTEN_FDS": count, "LISTEN_FDNAMES": "x", "HOME": "/"}


def test_a_socket_that_systemd_gives_is_used(first: socket.socket) -> None:
    first.bind(("127.0.0.1", 0))
    first.listen()
    os.set_inheritable(first.fileno(), True)
    environment = given()
    listener = inherited_listener(environment)
    assert listener is not None and listener.given is not None
    assert listener.address == Address(*first.getsockname())
    assert not listener.given.get_inheritable()
    assert environment == {"HOME": "/"}  # workers are given nothing
    settings = listener.written_into(Settings(unix_socket="/run/other"))
    assert (settings.port, settings.unix_socket) == (first.getsockname()[1], None)
    listener.given.close()


def test_a_unix_socket_that_systemd_gives_is_used(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = socket.socket(socket.AF_UNIX)
    made.bind(str(path))
    made.listen()
    monkeypatch.setattr(listening, "_FIRST_DESCRIPTOR", made.detach())
    listener = inherited_listener(given())
    assert listener is not None and listener.given is not None
    assert listener.written_into(DEFAULTS).unix_socket == str(path)
    listener.given.close()
    assert path.exists()  # it is not ours


@pytest.mark.parametrize(
    "environment",
    [{}, given("0"), given("x"), given(process=1), {"LISTEN_FDS": "1"}],
    ids=["nothing", "none", "no-number", "for-another-process", "for-nobody"],
)
def test_what_is_not_for_this_process_is_left_alone(environment: dict[str, str]) -> None:
    assert inherited_listener(dict(environment)) is None


def test_several_sockets_are_refused() -> None:
    with pytest.raises(CannotListen, match="systemd gives 2 sockets, and one is what can be used"):
        inherited_listener(given("2"))


def test_one_that_does_not_listen_is_refused(first: socket.socket) -> None:
    assert first.fileno() > 0
    with pytest.raises(CannotListen, match="does not listen: ListenStream=, and not Accept=yes"):
        inherited_listener(given())


def test_what_is_no_socket_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    descriptor = os.open(os.devnull, os.O_RDONLY)
    monkeypatch.setattr(listening, "_FIRST_DESCRIPTOR", descriptor)
    with pytest.raises(CannotListen, match="what systemd gives is no socket"):
        inherited_listener(given())
    os.close(descriptor)


# Certificates and keys, before anything listens.


def refusal(settings: Settings, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        check_certificate(settings)
        check_credentials(settings, install="server,jwt")
    assert "\n" not in str(ended.value)
    return str(ended.value)


def test_a_certificate_with_its_key_is_taken(tmp_path: Path) -> None:
    certfile, keyfile = certificate(tmp_path)
    check_certificate(Settings(ssl_certfile=str(certfile), ssl_keyfile=str(keyfile)))
    check_certificate(DEFAULTS)


@pytest.mark.parametrize("wrong", ["certfile", "keyfile"])
@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("missing", "cannot read {}: No such file or directory"),
        ("a-folder", "cannot read {}: Is a directory"),
        ("no-pem", "one of them is not PEM, or not of its kind"),
        ("empty", "one of them is not PEM, or not of its kind"),
    ],
)
def test_a_file_that_is_none_says_so(
    wrong: str, kind: str, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = dict(zip(("certfile", "keyfile"), certificate(tmp_path), strict=True))
    file = files[wrong]
    file.unlink()
    if kind == "a-folder":
        file.mkdir()
    elif kind != "missing":
        file.write_text("no PEM" if kind == "no-pem" else "")
    settings = Settings(**{f"ssl_{name}": str(path) for name, path in files.items()})
    assert reason.format(file) in refusal(settings, capsys)


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        (private_pem(rsa_key()), "they do not belong together"),
        (
            ec_key()
            .private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
            .decode(),
            "the key has a password: give one without",
        ),
    ],
    ids=["of-another", "with-a-password"],
)
def test_a_key_that_does_not_fit_says_so(
    key: str, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    certfile, keyfile = certificate(tmp_path)
    keyfile.write_text(key)
    settings = Settings(ssl_certfile=str(certfile), ssl_keyfile=str(keyfile))
    message = f"tusasgi: cannot use the certificate {certfile} with the key {keyfile}: {reason}"
    assert refusal(settings, capsys) == message


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("api_key_file", None, "--api-key-file {path}: No such file or directory"),
        ("api_key_file", "", "--api-key-file {path}: there is no key in it"),
        ("jwt_key_file", None, "--jwt-key-file {path}: No such file or directory"),
        ("jwt_key_file", "short", "--jwt-key-file {path}: a secret has to have 32 bytes or more"),
        ("jwt_jwks_file", "{", "--jwt-jwks-file {path}: it is no JWK Set"),
    ],
)
def test_keys_that_cannot_be_used_say_why(
    name: str,
    text: str | None,
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "keys"
    if text is not None:
        path.write_text(text)
    found = refusal(Settings(**{name: str(path)}), capsys)
    assert found.startswith(f"tusasgi: {message.format(path=path)}")


def test_a_secret_that_cannot_be_used_is_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    message = refusal(Settings(jwt_key="tell-nobody"), capsys)
    assert message == "tusasgi: --jwt-key: a secret has to have 32 bytes or more"
    check_credentials(Settings(jwt_key=SECRET), install="server,jwt")


def test_jwt_without_its_extra_says_what_to_install(tmp_path: Path) -> None:
    script = (
        "import sys; sys.modules['jwt'] = None\n"
        "from tusasgi.server.command import main; main(sys.argv[1:])"
    )
    words = ["serve", "--dir", str(tmp_path), "--port", "0", "--jwt-key", SECRET]
    done = subprocess.run(
        [sys.executable, "-c", script, *words], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "tusasgi: access by JWT needs the extra `jwt`: pip install 'tusasgi[server,jwt]'\n"
    )
