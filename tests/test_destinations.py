"""Destinations: one grammar of paths, and templates that never leave it."""

import re
import unicodedata
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tusasgi import DestinationTemplate, HandOver, Upload, check_destination
from tusasgi.testing import new_upload

BORN = datetime(2026, 11, 29, 23, 59, tzinfo=UTC)
UNSAFE = [
    pytest.param("", id="nothing"),
    pytest.param("/etc/passwd", id="absolute"),
    pytest.param("a//b", id="an-empty-name"),
    pytest.param("a/", id="a-folder"),
    pytest.param("..", id="up"),
    pytest.param("a/../../b", id="up-later"),
    pytest.param("./a", id="here"),
    pytest.param(".htaccess", id="hidden"),
    pytest.param("a/.ssh/b", id="a-hidden-folder"),
    pytest.param("a.", id="a-dot-at-the-end"),
    pytest.param("a /b", id="a-blank-at-the-end"),
    pytest.param(" a", id="a-blank-at-the-beginning"),
    pytest.param("a\0b", id="nul"),
    pytest.param("a\r\nb", id="a-line-break"),
    pytest.param("a\x7fb", id="delete"),
    pytest.param("gpj.\u202eexe", id="turned-direction"),
    pytest.param("a\u200bb", id="not-seen"),
    pytest.param("a\u2028b", id="a-line-separator"),
    pytest.param("a\ud800b", id="half-a-character"),
    pytest.param("a\\..\\b", id="a-backslash"),
    pytest.param("C:/a", id="a-drive"),
    pytest.param("a*", id="a-pattern"),
    pytest.param("a[1]", id="a-set-of-signs"),
    pytest.param("con", id="a-device"),
    pytest.param("a/LPT1.txt", id="a-device-with-an-extension"),
    pytest.param("n" * 256, id="a-long-name"),
    pytest.param("ä" * 128, id="a-name-of-many-bytes"),
    pytest.param("/".join("n" * 100 for _ in range(7)), id="a-long-path"),
]


@pytest.mark.parametrize("path", UNSAFE)
def test_a_path_that_is_not_safe_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="destination"):
        check_destination("the destination", path)


@pytest.mark.parametrize("value", [None, b"a", 1])
def test_what_is_no_text_is_refused(value: object) -> None:
    with pytest.raises(TypeError, match="the destination must be a path as text"):
        check_destination("the destination", value)


@pytest.mark.parametrize(
    "path", ["a", "a/b/c.mp4", "2026-11-29/Ådåm/ein Film (2).mp4", "n" * 255, "console", "a%2Fb"]
)
def test_a_safe_path_is_kept_as_it_is(path: str) -> None:
    assert check_destination("the destination", path) == path


def test_two_spellings_of_a_letter_are_one_path() -> None:
    spelled = unicodedata.normalize("NFD", "é/ü.txt")
    assert check_destination("the destination", spelled) == "é/ü.txt" != spelled


@pytest.mark.parametrize(
    ("template", "path"),
    [
        ("{date}/{owner}/{id}.{extension}", "2026-11-29/ada/u1.mp4"),
        ("{year}/{month}/{day}/{name}-{id}", "2026/11/29/film-u1"),
        ("{id}", "u1"),
        ("a {{b}}/{id}", "a {b}/u1"),
    ],
)
def test_a_template_is_filled_with_what_is_known(template: str, path: str) -> None:
    upload = new_upload(id="u1", created=BORN, owner="ada", metadata={"filename": b"film.mp4"})
    assert DestinationTemplate(template)(upload) == path


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{date}/{owner}", "must have {id} in it"),
        ("{ID}", "{ID}, which is none of id, date"),
        ("{id}.{extention}", "did you mean {extension}?"),
        ("{id.__class__}", "which is none of"),
        ("{id!r}", "must have plain fields"),
        ("{id:>80}", "must have plain fields"),
        ("{}/{id}", "which is none of"),
        ("{id", "cannot be read"),
        ("../{id}", "relative path of safe names"),
        ("/srv/{id}", "relative path of safe names"),
        (".{id}", "relative path of safe names"),
        ("{id}/", "relative path of safe names"),
        ("{id}" * 4, "has more than 255 bytes"),
        ("/".join(["{owner}"] * 8) + "/{id}", "at most 700 bytes"),
    ],
)
def test_a_template_that_could_go_wrong_is_refused_at_once(template: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        HandOver(template)


def test_a_template_is_text() -> None:
    with pytest.raises(TypeError, match="must be text, not 123"):
        HandOver(123)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "extension"),
    [
        ({}, "bin"),
        ({"metadata": {"filename": b"a.MP4"}}, "mp4"),
        ({"metadata": {"name": b"a.tar.gz"}}, "gz"),
        ({"metadata": {"filename": b"a", "filetype": b"image/jpeg"}}, "jpg"),
        ({"metadata": {"filename": b"a.b c"}}, "bin"),
        ({"metadata": {"filename": b"a.../x"}}, "bin"),
        ({"metadata": {"filename": b".profile"}}, "bin"),
        ({"metadata": {"filename": b"a.php"}, "facts": {"content_type": "image/png"}}, "png"),
        ({"metadata": {"filename": b"a.php"}, "facts": {"extension": "mkv"}}, "mkv"),
        ({"facts": {"extension": "../x", "content_type": "text/plain; charset=x"}}, "txt"),
    ],
)
def test_an_extension_is_what_was_found_or_else_what_was_said(
    fields: dict[str, Any], extension: str
) -> None:
    assert DestinationTemplate("{id}.{extension}")(new_upload(id="u", **fields)) == f"u.{extension}"


@pytest.mark.parametrize(
    ("owner", "folder"),
    [
        (None, "unknown"),
        ("", "unknown"),
        ("../../etc", "%2E.%2F..%2Fetc"),
        ("a/b", "a%2Fb"),
        ("a%2Fb", "a%252Fb"),
        ("con", "%63on"),
        ("a.", "a%2E"),
        ("a\0", "a%00"),
        ("\ud800", "%ED%A0%80"),
        ("e\u0301", "é"),
        (":\u0300", "%3A%CC%80"),
    ],
)
def test_an_owner_is_made_a_safe_name_of_its_own(owner: str | None, folder: str) -> None:
    upload = new_upload(id="u", owner=owner)
    assert DestinationTemplate("{owner}/{id}")(upload) == f"{folder}/u"


def test_long_owners_that_begin_alike_stay_apart() -> None:
    template = DestinationTemplate("{owner}/{id}")
    one, other = (template(new_upload(id="u", owner="o" * 200 + end)) for end in "ab")
    assert one != other
    assert check_destination("it", one) == one


_TEXT = st.text() | st.text(alphabet='./\\ %~*?[]:"aä\u0301\ud800\u202e\0\n')


@given(owner=_TEXT, other=_TEXT, filename=_TEXT, found=_TEXT)
def test_whatever_is_filled_in_the_path_is_safe_and_owners_stay_apart(
    owner: str, other: str, filename: str, found: str
) -> None:
    template = DestinationTemplate("{date}/{owner}/{name}-{id}.{extension}")
    metadata = {"filename": filename.encode("utf-8", "surrogatepass")}

    def path(owner: str) -> str:
        upload = Upload(
            id="u1",
            length=1,
            created=BORN,
            owner=owner,
            metadata=metadata,
            facts={"content_type": found, "extension": found},
        )
        return template(upload)

    assert check_destination("it", path(owner)) == path(owner)
    same = unicodedata.normalize("NFC", owner) == unicodedata.normalize("NFC", other)
    if not same and "unknown" not in (owner or "unknown", other or "unknown"):
        assert path(owner) != path(other)
