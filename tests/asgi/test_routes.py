"""Which upload a request is about, and its public path, under every kind of mount."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tusasgi import UploadNotFound
from tusasgi.asgi.routes import Route, find_route

Scope = dict[str, Any]


def scope(path: str, root_path: str | None = None, raw_path: str | None = None) -> Scope:
    found: Scope = {"path": path}
    if root_path is not None:
        found["root_path"] = root_path
    if raw_path is not None:
        found["raw_path"] = raw_path.encode()
    return found


@pytest.mark.parametrize(
    ("given_scope", "prefix", "upload_id", "base"),
    [
        # No framework.
        pytest.param(scope("/"), "", None, "", id="bare-collection"),
        pytest.param(scope("/abc"), "", "abc", "", id="bare-upload"),
        pytest.param(scope("/abc/", "", "/abc/"), "", "abc", "", id="bare-upload-and-slash"),
        pytest.param(scope("/files"), "/files", None, "/files", id="prefix-without-slash"),
        pytest.param(scope("/files/"), "/files", None, "/files", id="prefix-with-slash"),
        pytest.param(scope("/files/abc"), "/files", "abc", "/files", id="prefix-upload"),
        pytest.param(scope("/filesabc"), "/files", "filesabc", "", id="prefix-not-at-a-slash"),
        pytest.param(scope("//abc"), "", "abc", "", id="slashes-in-front"),
        # A server with a root path.
        pytest.param(
            scope("/proxy/abc", "/proxy", "/proxy/abc"), "", "abc", "/proxy", id="root-in-path"
        ),
        pytest.param(scope("/abc", "/proxy", "/abc"), "", "abc", "/proxy", id="root-taken-away"),
        pytest.param(
            scope("/proxy/files/abc", "/proxy", "/proxy/files/abc"),
            "/files",
            "abc",
            "/proxy/files",
            id="root-and-prefix",
        ),
        pytest.param(
            scope("/files/abc", "/proxy/", "/files/abc"),
            "/files",
            "abc",
            "/proxy/files",
            id="root-taken-away-and-prefix",
        ),
        # Starlette and FastAPI: the full path, all of it in root_path.
        pytest.param(
            scope("/api/files/abc", "/api/files", "/api/files/abc"),
            "",
            "abc",
            "/api/files",
            id="mount-upload",
        ),
        pytest.param(
            scope("/api/files/", "/api/files", "/api/files/"),
            "",
            None,
            "/api/files",
            id="mount-collection",
        ),
        pytest.param(
            scope("/api/files", "/api/files"), "", None, "/api/files", id="mount-without-slash"
        ),
        pytest.param(
            scope("/proxy/api/files/abc", "/proxy/api/files", "/proxy/api/files/abc"),
            "",
            "abc",
            "/proxy/api/files",
            id="mount-behind-a-proxy",
        ),
        # FastAPI(root_path=…): a root_path that is not in the path.
        pytest.param(
            scope("/api/files/abc", "/ext/api/files", "/api/files/abc"),
            "",
            "abc",
            "/ext/api/files",
            id="root-path-argument-upload",
        ),
        pytest.param(
            scope("/api/files/", "/ext/api/files", "/api/files/"),
            "",
            None,
            "/ext/api/files",
            id="root-path-argument-collection",
        ),
        # Litestar: only the tail in the path, and a slash behind it.
        pytest.param(
            scope("/abc/", "", "/api/files/abc"), "", "abc", "/api/files", id="stripped-upload"
        ),
        pytest.param(
            scope("/", "", "/api/files/"), "", None, "/api/files", id="stripped-collection"
        ),
        pytest.param(
            scope("/abc/", "/proxy", "/proxy/api/files/abc"),
            "",
            "abc",
            "/proxy/api/files",
            id="stripped-with-the-proxy",
        ),
        pytest.param(
            scope("/abc/", "/proxy", "/api/files/abc"),
            "",
            "abc",
            "/proxy/api/files",
            id="stripped-behind-the-proxy",
        ),
        pytest.param(
            scope("/", "/proxy/api/files"), "", None, "/proxy/api/files", id="stripped-no-raw-path"
        ),
        # Escapes and queries.
        pytest.param(scope("/abc", "", "/%61bc"), "", "abc", "", id="letters-may-be-escaped"),
        pytest.param(scope("/abc", "", "/abc?a=/%2f"), "", "abc", "", id="query-in-the-raw-path"),
        pytest.param(
            scope("/a/b/files/abc", "/a/b/files", "/a%2Fb/files/abc"),
            "",
            "abc",
            "/a/b/files",
            id="an-escaped-slash-in-the-mount",
        ),
        # Prefixes that need escapes in a URL.
        pytest.param(
            scope("/my files/abc", "/my files", "/my%20files/abc"),
            "",
            "abc",
            "/my%20files",
            id="mount-with-a-blank",
        ),
        pytest.param(
            scope("/dateien-\u00fc/", "/dateien-\u00fc", "/dateien-%C3%BC/"),
            "",
            None,
            "/dateien-%C3%BC",
            id="mount-not-ascii",
        ),
        pytest.param(
            scope("/my files/abc"), "/my files", "abc", "/my%20files", id="prefix-with-a-blank"
        ),
    ],
)
def test_the_upload_and_its_url_are_found(
    given_scope: Scope, prefix: str, upload_id: str | None, base: str
) -> None:
    assert find_route(given_scope, prefix) == Route(upload_id=upload_id, base=base)


@pytest.mark.parametrize(
    ("given_scope", "prefix"),
    [
        pytest.param(scope("/a/b"), "", id="two-segments"),
        pytest.param(scope("/other/abc"), "/files", id="another-prefix"),
        pytest.param(scope("/files/../abc"), "/files", id="dots"),
        pytest.param(scope("/files/a/b", "/files"), "", id="encoded-slash"),
        pytest.param(scope("/files/a/", "/files", "/files/a%2f"), "", id="encoded-slash-behind"),
        pytest.param(scope("/files/a//", "/files", "/files/a%2F/"), "", id="and-a-real-one"),
        pytest.param(scope("/files//a", "/files", "/files/%2Fa"), "", id="encoded-slash-in-front"),
        pytest.param(scope("/files/a/", "", "/files%2fa/"), "/files", id="encoded-for-a-real-one"),
        pytest.param(scope("/a//", "", "/api/files/a%2f"), "", id="encoded-slash-and-stripped"),
        pytest.param(scope("/a/", "", "/a%2f?b=c"), "", id="encoded-slash-and-a-query"),
        pytest.param(scope("/api/filesabc/x", "/api/files"), "", id="root-not-at-a-slash"),
    ],
)
def test_every_other_path_is_nothing(given_scope: Scope, prefix: str) -> None:
    with pytest.raises(UploadNotFound, match="nothing at this URL"):
        find_route(given_scope, prefix)


SEGMENTS = st.lists(st.from_regex(r"[a-z]{1,5}", fullmatch=True), max_size=3)
IDS = st.from_regex(r"[A-Z0-9_-]{1,64}", fullmatch=True)


@given(SEGMENTS, SEGMENTS, IDS, st.sampled_from(["", "/"]), st.booleans())
def test_any_mount_behind_any_proxy_gives_the_same(
    proxy: list[str], mount: list[str], upload_id: str, slash: str, is_stripped: bool
) -> None:
    root = "".join(f"/{segment}" for segment in proxy + mount)
    full = f"{root}/{upload_id}{slash}"
    if is_stripped:  # as Litestar does
        given_scope = scope(f"/{upload_id}/", "".join(f"/{part}" for part in proxy), full)
    else:  # as Starlette does
        given_scope = scope(full, root, full)
    assert find_route(given_scope, "") == Route(upload_id=upload_id, base=root)


@given(st.text(), st.text(), st.one_of(st.none(), st.binary()), st.sampled_from(["", "/files"]))
def test_no_path_raises_anything_but_not_found(
    path: str, root_path: str, raw_path: bytes | None, prefix: str
) -> None:
    given_scope: Scope = {"path": path, "root_path": root_path}
    if raw_path is not None:
        given_scope["raw_path"] = raw_path
    try:
        route = find_route(given_scope, prefix)
    except UploadNotFound:
        return
    assert route.upload_id is None or "/" not in route.upload_id
