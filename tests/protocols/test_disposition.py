"""Content-Disposition: a name that can be shown and stored, whatever was sent."""

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.conformance.ietf import shows
from tusasgi.protocols.disposition import MAX_NAME_SIZE, parse_file_name, safe_name


@pytest.mark.parametrize(
    ("header", "name"),
    [
        pytest.param('inline; filename="holiday in Rome.mp4"', "holiday in Rome.mp4", id="quoted"),
        pytest.param("inline; filename=a.txt", "a.txt", id="token"),
        pytest.param('INLINE ; FileName = "a.txt"', "a.txt", id="case-and-blanks"),
        pytest.param('inline; filename="a.txt";', "a.txt", id="semicolon-at-the-end"),
        pytest.param('inline; size=5; filename="a.txt"; x="y;z"', "a.txt", id="other-parameters"),
        pytest.param(r'inline; filename="a\"b.txt"', 'a"b.txt', id="escaped-quote"),
        pytest.param("inline; filename*=UTF-8''%e2%82%ac.txt", "€.txt", id="extended"),
        pytest.param("inline; filename*=utf-8'en'a.txt", "a.txt", id="with-a-language"),
        pytest.param("inline; filename*=iso-8859-1''%fc.txt", "ü.txt", id="latin-1"),
        pytest.param(
            "inline; filename=\"EUR.txt\"; filename*=UTF-8''%e2%82%ac.txt",
            "€.txt",
            id="extended-wins",
        ),
        pytest.param(
            "inline; filename*=UTF-8''%ff.txt; filename=a.txt", "a.txt", id="broken-extended-loses"
        ),
        pytest.param(
            "inline; filename*=koi8-r''%c1; filename=a.txt", "a.txt", id="unknown-charset-loses"
        ),
        pytest.param("inline; filename*=a.txt; filename=b", "b", id="extended-without-charset"),
        pytest.param('inline; filename="\xc3\xbc.txt"', "ü.txt", id="utf-8-as-it-is"),
        pytest.param('inline; filename="\xfc.txt"', "ü.txt", id="latin-1-as-it-is"),
        pytest.param("inline", None, id="no-name"),
        pytest.param('inline; filename=""', None, id="empty-name"),
        pytest.param("", None, id="empty"),
        pytest.param("filename=a.txt", None, id="no-type"),
        pytest.param("inline; filename=a b", None, id="token-with-a-blank"),
        pytest.param('inline; filename="a', None, id="quote-without-an-end"),
        pytest.param("inline; filename", None, id="no-value"),
        pytest.param("inline, filename=a", None, id="comma"),
    ],
)
def test_the_name_of_a_file_is_found(header: str, name: str | None) -> None:
    assert parse_file_name(header) == name


@shows("IETF-213")
@pytest.mark.parametrize(
    ("header", "name"),
    [
        pytest.param('inline; filename="../../etc/passwd"', "passwd", id="folders"),
        pytest.param('inline; filename="/etc/passwd"', "passwd", id="absolute"),
        pytest.param(r'inline; filename="C:\\dir\\a.txt"', "a.txt", id="backslashes"),
        pytest.param(r'inline; filename="C:\dir\a.txt"', "a.txt", id="bare-backslashes"),
        pytest.param("inline; filename*=UTF-8''..%2f..%5ca.txt", "a.txt", id="escaped-folders"),
        pytest.param('inline; filename=".."', None, id="parent"),
        pytest.param('inline; filename="."', None, id="folder-itself"),
        pytest.param('inline; filename="a/"', None, id="folder"),
        pytest.param("inline; filename*=UTF-8''a%00%0d%0ab%7f%c2%85.txt", "ab.txt", id="controls"),
        pytest.param(
            "inline; filename*=UTF-8''photo%e2%80%aegpj.exe", "photogpj.exe", id="right-to-left"
        ),
        pytest.param("inline; filename*=UTF-8''a%e2%80%a8b", "ab", id="line-separator"),
        pytest.param("inline; filename=a; filename=b", None, id="twice"),
        pytest.param("inline; filename=a; x=1; X=2", None, id="another-parameter-twice"),
        pytest.param("inline; filename=a, inline; filename=b", None, id="two-headers"),
        pytest.param(
            f'inline; filename="{"x" * 300}"', "x" * MAX_NAME_SIZE, id="longer-than-a-name-can-be"
        ),
        pytest.param(
            f"inline; filename*=UTF-8''{'%c3%bc' * 200}", "ü" * 127, id="cut-between-signs"
        ),
    ],
)
def test_a_hostile_name_does_no_harm(header: str, name: str | None) -> None:
    assert parse_file_name(header) == name


_ANY = st.text(max_size=60) | st.text("inline; fame*=\"\\'%UTF-8/.,\x00ü", max_size=60)


@shows("IETF-213")
@given(_ANY.map(lambda text: f"inline; filename={text}") | _ANY)
@example('inline; filename="\ud800"')
@example("inline; filename*=''%")
def test_any_header_gives_a_safe_name_or_none(header: str) -> None:
    name = parse_file_name(header)
    assert name is None or name == safe_name(name)


@given(st.text(max_size=300))
def test_a_safe_name_is_one_name_in_one_line(name: str) -> None:
    safe = safe_name(name)
    assert safe not in (".", "..")
    assert not set(safe) & set("/\\\0\r\n\u2028\u202e")
    assert len(safe.encode()) <= MAX_NAME_SIZE
    assert safe_name(safe) == safe


@pytest.mark.parametrize(
    "header",
    [
        pytest.param("inline" + "; a=b" * 20_000, id="parameters"),
        pytest.param("inline; a=" + '"' + "\\" * 100_000, id="backslashes"),
        pytest.param("inline" + " " * 100_000 + "x", id="blanks"),
        pytest.param("inline; filename=" + "a" * 100_000 + '"', id="token"),
    ],
)
def test_a_header_made_to_hurt_is_judged_soon(header: str) -> None:
    start = time.process_time()
    parse_file_name(header)
    assert time.process_time() - start < 1
