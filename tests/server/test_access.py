"""Keys and tokens before the uploads: who is let in, and that uploads are their owners' alone."""

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.to_thread import run_sync
from starlette.types import ASGIApp

from tests._stage import make_stage
from tests.hosts._wire import path_of
from tests.server._app import APPEND, DRAFT, app_of, ask, create
from tests.server._keys import SECRET, forged, token
from tusasgi import Creation, Forbidden, Hooks, Operation, Request, Upload
from tusasgi.server import watched_file
from tusasgi.server.access import Access
from tusasgi.server.api_keys import ApiKeys
from tusasgi.server.tokens import Tokens
from tusasgi.stores.memory import MemoryStore
from tusasgi.testing import RecordedResponse

pytestmark = pytest.mark.anyio

KEYS = f"""# whose keys are these
alice-key-0123456789 alice

alice-key-of-her-phone alice
sha256:{hashlib.sha256(b"bob-key-012345678901").hexdigest()} bob
"""
ALICE = {"Authorization": "Bearer alice-key-0123456789"}
PHONE = {"Authorization": "bearer   alice-key-of-her-phone"}
BOB = {"Authorization": "Bearer bob-key-012345678901"}
BY_TOKEN = {"Authorization": f"Bearer {token()}"}


@pytest.fixture
def keys(tmp_path: Path) -> str:
    (tmp_path / "keys").write_text(KEYS)
    return str(tmp_path / "keys")


@pytest.fixture
async def app(keys: str, tmp_path: Path, impatient: None) -> ASGIApp:
    return await app_of(tmp_path, api_key_file=keys, jwt_key=SECRET)


async def test_keys_and_tokens_name_the_owner(app: ASGIApp) -> None:
    path = path_of(await create(app, ALICE))
    for who in (PHONE, BY_TOKEN, ALICE):  # all of Alice
        assert (await ask(app, "HEAD", path, who)).status == 200
    assert (await ask(app, "PATCH", path, {**APPEND, **BY_TOKEN}, b"hello")).status == 204
    assert (await ask(app, "GET", path, PHONE)).body == b"hello"
    assert (await ask(app, "DELETE", path, ALICE)).status == 204
    assert (await create(app, BOB)).startswith("http://files.example/files/")


def told_of(answer: RecordedResponse) -> tuple[int, dict[str, str], bytes]:
    """Return all that the client is told, but for the name of the request."""
    headers = {name: value for name, value in answer.headers.items() if name != "x-request-id"}
    return answer.status, headers, answer.body


REQUESTS: list[tuple[str, dict[str, str], bytes]] = [
    ("HEAD", {}, b""),
    ("GET", {}, b""),
    ("PATCH", APPEND, b"hello"),
    ("DELETE", {}, b""),
    ("HEAD", DRAFT, b""),
    ("GET", DRAFT, b""),
    ("DELETE", DRAFT, b""),
    (
        "PATCH",
        {**DRAFT, "Upload-Offset": "0", "Content-Type": "application/partial-upload"},
        b"hello",
    ),
]


@pytest.mark.parametrize("origin", [{}, DRAFT], ids=["of-tus", "of-the-draft"])
async def test_for_others_an_upload_is_not_there(app: ASGIApp, origin: dict[str, str]) -> None:
    more = {"Upload-Complete": "?0"} if origin else {}
    path = path_of(await create(app, {**ALICE, **origin, **more}))
    for method, headers, body in REQUESTS:
        to_hers = await ask(app, method, path, {**headers, **BOB}, body)
        to_none = await ask(app, method, f"/files/{'0' * 32}", {**headers, **BOB}, body)
        assert told_of(to_hers) == told_of(to_none), method
        assert to_hers.status == 404
    assert (await ask(app, "HEAD", path, {**ALICE, **origin})).headers["upload-offset"] == "0"


async def test_parts_of_others_are_not_there_either(app: ASGIApp) -> None:
    part = path_of(await create(app, {**ALICE, "Upload-Concat": "partial"}))
    await ask(app, "PATCH", part, {**APPEND, **ALICE}, b"hello")
    refused = await ask(app, "POST", "/files/", {**BOB, "Upload-Concat": f"final;{part}"})
    unknown = await ask(
        app, "POST", "/files/", {**BOB, "Upload-Concat": f"final;/files/{'0' * 32}"}
    )
    assert told_of(refused) == told_of(unknown)
    assert refused.status >= 400
    joined = await ask(app, "POST", "/files/", {**ALICE, "Upload-Concat": f"final;{part}"})
    assert joined.status == 201


async def test_what_was_created_without_an_owner_is_nobodys(keys: str, tmp_path: Path) -> None:
    path = path_of(await create(await app_of(tmp_path)))
    app = await app_of(tmp_path, api_key_file=keys)
    assert (await ask(app, "HEAD", path, ALICE)).status == 404


INVALID: list[tuple[str, str]] = [
    ("unknown", "Bearer alice-key-0123456788"),
    ("a-beginning", "Bearer alice-key-012345678"),
    ("the-digest", f"Bearer sha256:{hashlib.sha256(b'bob-key-012345678901').hexdigest()}"),
    ("the-comment", "Bearer #"),
    ("empty", "Bearer "),
    ("no-scheme", "alice-key-0123456789"),
    ("basic", "Basic alice-key-0123456789"),
    ("two-words", "Bearer alice-key-0123456789 alice"),
    ("two-headers", "Bearer alice-key-0123456789, Bearer alice-key-0123456789"),
    ("not-ascii", "Bearer alice-key-\xfc"),
    ("alg-none", f"Bearer {forged({'alg': 'none'}, {'sub': 'alice', 'exp': 2**40})}"),
    ("other-tenant-key", f"Bearer {token('another secret of thirty-two bytes, or so')}"),
    ("huge", f"Bearer {token(padding='x' * 100_000)}"),
    ("huge-key", f"Bearer {'a' * 1_000_000}"),
]


@pytest.mark.parametrize("given", [pytest.param(one, id=name) for name, one in INVALID])
async def test_what_is_not_valid_is_refused_before_a_byte_of_the_body_is_read(
    app: ASGIApp, given: str
) -> None:
    creation = {"Upload-Length": "5", "Content-Type": APPEND["Content-Type"]}
    for method, path in (("POST", "/files/"), ("PATCH", f"/files/{'0' * 32}")):
        headers = {**creation, **APPEND, "Authorization": given}
        answer = await ask(app, method, path, headers, [b"he", b"llo"])
        assert (answer.status, answer.receives_before_start) == (401, 0)
        assert answer.headers["www-authenticate"].startswith(
            'Bearer realm="tusasgi", error="invalid_token", error_description="'
        )
        assert answer.headers["tus-resumable"] == "1.0.0"
        assert given[7:20] not in answer.body.decode() + answer.headers["www-authenticate"] or (
            given == "Bearer "
        )


@pytest.mark.parametrize("method", ["POST", "HEAD", "PATCH", "DELETE", "GET"])
async def test_who_shows_nothing_is_asked_for_it(app: ASGIApp, method: str) -> None:
    path = "/files/" if method == "POST" else f"/files/{'0' * 32}"
    headers = {"Upload-Length": "5", **APPEND}
    answer = await ask(app, method, path, headers, [b"hello"])
    assert (answer.status, answer.receives_before_start) == (401, 0)
    assert answer.headers["www-authenticate"] == 'Bearer realm="tusasgi"'  # RFC 6750 section 3.1
    by_query = await ask(
        app, method, path, headers, query_string=b"access_token=alice-key-0123456789"
    )
    assert by_query.status == 401


async def test_what_a_server_can_do_is_no_secret(app: ASGIApp) -> None:
    assert (await ask(app, "OPTIONS", "/files/")).status == 204


async def test_an_expired_token_is_told_so(app: ASGIApp) -> None:
    expired = token(exp=datetime.now(UTC) - timedelta(minutes=1))
    answer = await ask(app, "POST", "/files/", {"Authorization": f"Bearer {expired}"})
    assert answer.status == 401
    assert answer.headers["www-authenticate"].endswith('error_description="the token has expired"')


# Hooks behind it.


class Recording(Hooks):
    """Hooks that remember what they were asked, and refuse what is called forbidden."""

    head_size = 3

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any]] = []

    async def authorize(
        self, request: Request, operation: Operation, upload: Upload | None
    ) -> None:
        self.asked.append((request.state["owner"], None if upload is None else upload.owner))
        if "x-forbidden" in request.headers:
            raise Forbidden("not today")

    async def creating(self, creation: Creation, request: Request | None) -> Creation:
        self.asked.append(("creating", creation.owner))
        return Creation(length=creation.length, owner="somebody else", facts={"seen": True})

    async def inspect(self, upload: Upload, head: bytes) -> dict[str, Any]:
        self.asked.append(("inspect", head))
        return {}

    async def completed(self, upload: Upload) -> None:
        self.asked.append(("completed", upload.owner))


async def test_other_hooks_are_asked_after_it_and_told_all_the_rest(keys: str) -> None:
    hooks = Recording()
    access = Access(hooks, [await run_sync(ApiKeys, keys), Tokens(key=SECRET)])
    stage = make_stage(MemoryStore(), hooks=access)

    async def asked(
        method: str, path: str, headers: dict[str, str], body: bytes = b""
    ) -> RecordedResponse:
        hooks.asked.clear()
        return await stage.driver.request(method, path, headers, body)

    refused = await asked("POST", "/", {"Upload-Length": "5"})
    assert (refused.status, hooks.asked) == (401, [])
    forbidden = await asked("POST", "/", {"Upload-Length": "5", "X-Forbidden": "1", **ALICE})
    assert (forbidden.status, hooks.asked) == (403, [("alice", None)])
    created = await asked("POST", "/", {"Upload-Length": "5", **ALICE})
    assert hooks.asked == [("alice", None), ("creating", "alice")]
    path = "/" + created.headers["location"].rpartition("/")[2]
    hidden = await asked("HEAD", path, BOB)
    assert (hidden.status, hooks.asked) == (404, [("bob", None)])
    done = await asked("PATCH", path, {**APPEND, **ALICE}, b"hello")
    assert done.status == 204
    assert hooks.asked == [("alice", "alice"), ("inspect", b"hello"), ("completed", "alice")]
    upload = await stage.uploads.get(path[1:])
    assert (upload.owner, upload.facts) == ("alice", {"seen": True})


async def test_what_the_host_creates_itself_has_the_owner_that_it_says(keys: str) -> None:
    access = Access(Hooks(), [await run_sync(ApiKeys, keys)])
    stage = make_stage(MemoryStore(), hooks=access)
    upload = await stage.uploads.create(length=5, owner="bob")
    assert (await stage.driver.request("HEAD", f"/{upload.id}", BOB)).status == 200
    assert (await stage.driver.request("HEAD", f"/{upload.id}", ALICE)).status == 404


def test_hooks_that_nobody_has_cost_nothing_behind_it_either() -> None:
    access = Access(Hooks(), [])
    assert access.created.__func__ is Hooks.created  # type: ignore[attr-defined]
    assert Access(Recording(), []).head_size == 3


# The file of keys.

UNFIT: list[tuple[str, str]] = [
    ("", "there is no key in it"),
    ("# only words\n\n", "there is no key in it"),
    ("alice-key-0123456789", "line 1 is not of the form KEY OWNER"),
    ("\nalice-key-0123456789 alice smith", "line 2 is not of the form KEY OWNER"),
    ("short alice", "the key of line 1 is shorter than 16 characters"),
    ("alice-key-\xfc123456789 alice", "the key of line 1 has other characters than"),
    ("alice-key-0123456789 a\nalice-key-0123456789 b", "line 2 has the key of a line above"),
    (
        f"alice-key-0123456789 a\nsha256:{hashlib.sha256(b'alice-key-0123456789').hexdigest()} b",
        "line 2 has the key of a line above",
    ),
    ("sha256:abcd alice", "the key of line 1 is shorter than 16 characters"),
]


@pytest.mark.parametrize(("text", "message"), UNFIT)
def test_a_file_of_keys_that_is_wrong_is_refused_without_showing_one(
    text: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / "keys").write_text(text, "utf-8")
    with pytest.raises(ValueError, match=message) as refused:
        ApiKeys(str(tmp_path / "keys"))
    assert "alice-key" not in str(refused.value)


async def test_keys_come_and_go_while_the_server_runs(
    keys: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(watched_file, "_LOOK_SECONDS", 0.001)
    api_keys = await run_sync(ApiKeys, keys)

    async def until(is_true: Callable[[], bool]) -> None:
        with anyio.fail_after(20):
            while not is_true():  # noqa: ASYNC110 - a thread brings it about
                await anyio.sleep(0.001)

    async def until_owned(key: str, owner: str) -> None:
        await until(lambda: api_keys.owner_of(key) == owner)

    async def write(text: str) -> None:
        new = anyio.Path(f"{keys}.new")
        await new.write_text(text)
        await new.replace(keys)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watched_file.watch, api_keys.files)
        await until_owned("alice-key-0123456789", "alice")
        await write("carol-key-0123456789 carol\n")
        await until_owned("carol-key-0123456789", "carol")
        assert api_keys.owner_of("alice-key-0123456789") is None
        await anyio.Path(keys).unlink()  # as some editors do, for a moment
        await until(lambda: bool(caplog.messages))
        assert api_keys.owner_of("carol-key-0123456789") == "carol"
        await write("dave-key-01234567890 dave\n")
        await until_owned("dave-key-01234567890", "dave")
        tasks.cancel_scope.cancel()
    (warning,) = caplog.messages  # once, however often it was looked at
    assert warning.endswith("keys: No such file or directory; what it said before counts")


def test_a_file_of_keys_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        ApiKeys(str(tmp_path / "nothing"))
