"""Structured fields: what follows the grammar has its value, and all else counts as absent."""

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.conformance.ietf import shows
from tusasgi.protocols.structured import (
    MAX_INTEGER,
    Value,
    format_dictionary,
    format_item,
    parse_boolean,
    parse_dictionary,
    parse_item,
    parse_unsigned,
)

_VALUES = st.integers(-MAX_INTEGER, MAX_INTEGER) | st.booleans() | st.binary(max_size=80)
_KEYS = st.from_regex(r"[a-z*][a-z0-9_.*-]{0,10}", fullmatch=True)
_LIKELY = st.text('"\\ab*A019?:=;,()@%-. \t/+\x7fü', max_size=40)


@given(_VALUES)
def test_every_item_comes_back(value: int | bool | bytes) -> None:
    found = parse_item([format_item(value)])
    assert found == value
    assert type(found) is type(value)


@given(st.dictionaries(_KEYS, _VALUES, max_size=5))
def test_every_dictionary_comes_back(members: dict[str, int | bool | bytes]) -> None:
    assert parse_dictionary([format_dictionary(members)]) == members


@given(st.lists(st.text(max_size=40) | _LIKELY, max_size=3))
@example(['"a', 'b"'])
@example([":YQ=:"])
@example(["5;a=\ud800"])
def test_any_lines_are_read_or_count_as_absent(lines: list[str]) -> None:
    value = parse_item(lines)
    assert value is None or len(lines) == 1
    number = parse_unsigned(lines)
    assert number is None or 0 <= number <= MAX_INTEGER
    assert parse_boolean(lines) in (None, True, False)
    for key, member in parse_dictionary(lines).items():
        assert key == key.lower()
        assert member is None or isinstance(member, int | bytes)


@shows("IETF-010", "IETF-012")
@pytest.mark.parametrize(
    ("line", "number"),
    [
        pytest.param("0", 0, id="zero"),
        pytest.param("42", 42, id="number"),
        pytest.param("007", 7, id="leading-zeros"),
        pytest.param("9" * 15, MAX_INTEGER, id="15-digits"),
        pytest.param("-0", 0, id="minus-zero"),
        pytest.param(" 5 ", 5, id="outer-blanks"),
        pytest.param("5;a=b", 5, id="parameter"),
        pytest.param('5;a; *b="x,\\"y";c=:YQ==:;d=?0', 5, id="parameters"),
        pytest.param('5;a=1.5;b=-2;c=@12;d=%"%c3%bc"', 5, id="parameters-of-other-types"),
        pytest.param("1" + "0" * 15, None, id="16-digits"),
        pytest.param("-1", None, id="negative"),
        pytest.param("+1", None, id="plus"),
        pytest.param("5.0", None, id="decimal"),
        pytest.param("5.", None, id="point"),
        pytest.param("0x5", None, id="hexadecimal"),
        pytest.param("5 0", None, id="blank-within"),
        pytest.param("5_0", None, id="underscore"),
        pytest.param("\u0665", None, id="digit-of-another-script"),
        pytest.param("five", None, id="token"),
        pytest.param('"5"', None, id="string"),
        pytest.param("?1", None, id="boolean"),
        pytest.param("(5)", None, id="inner-list"),
        pytest.param("5, 6", None, id="two-values"),
        pytest.param("5;", None, id="empty-parameter"),
        pytest.param("5;A=1", None, id="upper-case-parameter"),
        pytest.param("5;a=", None, id="parameter-without-its-value"),
        pytest.param("5 ;a", None, id="blank-before-a-parameter"),
        pytest.param("5\n", None, id="line-end"),
        pytest.param("", None, id="empty"),
    ],
)
def test_a_size_is_an_integer_that_is_not_negative(line: str, number: int | None) -> None:
    assert parse_unsigned([line]) == number


@shows("IETF-011")
@pytest.mark.parametrize(
    ("line", "truth"),
    [
        pytest.param("?0", False, id="false"),
        pytest.param("?1", True, id="true"),
        pytest.param("?1;why=because", True, id="parameter"),
        pytest.param("?2", None, id="another-digit"),
        pytest.param("? 1", None, id="blank-within"),
        pytest.param("1", None, id="integer"),
        pytest.param("true", None, id="token"),
        pytest.param("?1, ?1", None, id="two-values"),
        pytest.param("?10", None, id="two-digits"),
        pytest.param("", None, id="empty"),
    ],
)
def test_a_boolean_is_a_question_mark_and_a_digit(line: str, truth: bool | None) -> None:
    assert parse_boolean([line]) is truth


@shows("IETF-010", "IETF-011", "IETF-012")
@pytest.mark.parametrize(
    "lines",
    [
        pytest.param([], id="none"),
        pytest.param(["5", "5"], id="same-twice"),
        pytest.param(["5", ""], id="an-empty-one"),
        pytest.param(['5;a="x', 'y"'], id="split-within-a-string"),
    ],
)
def test_an_item_has_exactly_one_line(lines: list[str]) -> None:
    assert parse_item(lines) is None


@pytest.mark.parametrize(
    ("lines", "members"),
    [
        pytest.param(["a=1, b=?0, c=:YQ==:"], {"a": 1, "b": False, "c": b"a"}, id="values"),
        pytest.param(["a, b;x=1"], {"a": True, "b": True}, id="true-without-a-value"),
        pytest.param(["a=1\t,\tb=2"], {"a": 1, "b": 2}, id="tabs"),
        pytest.param(["a=1", "b=2"], {"a": 1, "b": 2}, id="lines"),
        pytest.param(["a=1, a=2"], {"a": 2}, id="the-last-of-a-key"),
        pytest.param(
            ['a=x/y, b="c, d", c=(1 "2" :Yg==:;q );r, d=()'],
            dict.fromkeys("abcd"),
            id="other-types-have-no-value",
        ),
        pytest.param(["a=:YQ:"], {"a": b"a"}, id="padding-missing"),
        pytest.param(["a=:YR==:"], {"a": b"a"}, id="bits-beyond-the-last-byte"),
        pytest.param(["a=::"], {"a": b""}, id="no-bytes"),
        pytest.param(["a=:YQ=:"], {}, id="half-a-padding"),
        pytest.param(["a=:Y:"], {}, id="a-sign-too-few"),
        pytest.param(["a=:YQ==: x"], {}, id="something-after-a-value"),
        pytest.param(["a=:Y-_=:"], {}, id="alphabet-for-urls"),
        pytest.param(["a=1,"], {}, id="comma-at-the-end"),
        pytest.param(["a=1,,b=2"], {}, id="empty-member"),
        pytest.param(["a=1 b=2"], {}, id="no-comma"),
        pytest.param(["A=1"], {}, id="upper-case-key"),
        pytest.param(["a="], {}, id="value-missing"),
        pytest.param(["a=(1 2"], {}, id="open-list"),
        pytest.param(["a=(1(2))"], {}, id="list-in-a-list"),
        pytest.param(["a=1, b=(1,2)"], {}, id="one-bad-member-voids-all"),
        pytest.param([], {}, id="absent"),
        pytest.param([""], {}, id="empty"),
    ],
)
def test_a_dictionary_is_read_whole_or_not_at_all(
    lines: list[str], members: dict[str, Value]
) -> None:
    assert parse_dictionary(lines) == members


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("a=(" + "1 " * 50_000, id="list-without-an-end"),
        pytest.param("a" + ";b" * 50_000 + ";", id="parameters"),
        pytest.param('a="' + '\\"' * 50_000, id="string-without-an-end"),
        pytest.param("a=:" + "YWFh" * 25_000 + "!", id="bytes"),
        pytest.param("a," * 50_000, id="members"),
        pytest.param("a" + " \t" * 50_000, id="blanks"),
        pytest.param("a=" + "1" * 100_000, id="digits"),
        pytest.param('a=%"' + "%c3" * 30_000, id="display-string"),
    ],
)
def test_a_field_made_to_hurt_is_judged_soon(text: str) -> None:
    start = time.process_time()
    assert parse_dictionary([text]) == {}
    assert parse_item([text]) is None
    assert time.process_time() - start < 1
