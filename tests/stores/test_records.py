import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tusasgi import Upload
from tusasgi.stores.records import dump_record, load_record

NOW = datetime(2024, 2, 29, 12, 30, tzinfo=UTC)

moments = st.datetimes(
    min_value=datetime(1970, 1, 2), max_value=datetime(2200, 1, 1), timezones=st.just(UTC)
)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
facts = st.dictionaries(
    texts,
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), texts),
    max_size=4,
)
uploads = st.builds(
    Upload,
    id=st.text("abcXYZ019-_", min_size=1, max_size=64),
    length=st.none() | st.integers(0, 10**18),
    created=moments,
    offset=st.integers(0, 10**18),
    metadata=st.dictionaries(texts, st.binary(max_size=20), max_size=4),
    metadata_header=st.none() | texts,
    max_size=st.none() | st.integers(0, 10**18),
    owner=st.none() | texts,
    facts=facts,
    expires=st.none() | moments,
    min_size=st.integers(0, 10**18),
    is_partial=st.booleans(),
    parts=st.lists(st.text("abcXYZ019-_", min_size=1), max_size=3).map(tuple),
    concat_header=st.none() | texts,
    sha256=st.none() | st.text("0123456789abcdef", min_size=64, max_size=64),
    is_complete=st.booleans(),
    removal=st.sampled_from([None, "terminated", "expired"]),
    destination=st.none() | texts,
)


@given(upload=uploads)
def test_a_record_holds_everything_but_the_offset(upload: Upload) -> None:
    assert load_record(dump_record(upload), offset=upload.offset) == upload
    assert "offset" not in json.loads(dump_record(upload))


def test_the_order_of_metadata_stays() -> None:
    upload = Upload(id="a", length=1, created=NOW, metadata={"z": b"1", "a": b"2", "m": b"3"})
    assert list(load_record(dump_record(upload), offset=0).metadata) == ["z", "a", "m"]


def test_a_date_is_read_as_utc_whatever_zone_it_was_written_in() -> None:
    there = NOW.astimezone(timezone(timedelta(hours=5, minutes=45)))
    record = load_record(dump_record(Upload(id="a", length=1, created=there)), offset=0)
    assert record.created == NOW
    assert record.created.tzinfo is UTC


def test_a_record_of_a_later_version_is_refused() -> None:
    record = json.loads(dump_record(Upload(id="a", length=1, created=NOW)))
    record["version"] = 4
    with pytest.raises(ValueError, match="version 4 are not known"):
        load_record(json.dumps(record).encode(), offset=0)


def test_an_earlier_release_refuses_a_record_whose_bytes_it_would_miss() -> None:
    record = json.loads(dump_record(Upload(id="a", length=1, created=NOW, destination="x")))
    assert record["version"] == 3
    assert json.loads(dump_record(Upload(id="a", length=1, created=NOW)))["version"] == 1


def test_a_record_of_the_first_release_can_be_read() -> None:
    upload = Upload(id="u", length=5, created=NOW)
    record = json.loads(dump_record(upload))
    for name in ("min_size", "is_partial", "parts", "concat_header", "sha256", "removal"):
        del record[name]
    assert load_record(json.dumps(record).encode(), offset=0) == upload
