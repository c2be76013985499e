"""How far an append to a bucket is: no bucket is needed."""

import pytest

from tusasgi.stores.s3.manifest import Manifest, Segment
from tusasgi.stores.s3.progress import FREE, Progress
from tusasgi.stores.s3.rope import Rope
from tusasgi.testing import new_upload

PART = 10 * FREE


def progress(
    *,
    parts: int = 0,
    segment: int = 0,
    tail: int = 0,
    shown: int = 0,
    under_way: int = 0,
    length: int | None = None,
    is_multipart: bool = False,
    is_staged: bool = False,
) -> Progress:
    upload = new_upload(length=length)
    return Progress(
        Manifest(
            upload=upload,
            parts_size=parts,
            segments=(Segment(key="a", size=segment),),
            tail=Rope([bytes(tail)]),
            multipart_id="multipart" if is_multipart or parts else None,
        ),
        Manifest(upload=upload, parts_size=shown),
        under_way=under_way,
        length=length,
        part_size=PART,
        is_staged=is_staged,
    )


@pytest.mark.parametrize(
    ("found", "buffered", "fills_part"),
    [
        pytest.param(progress(), PART - 1, False, id="one-byte-too-few"),
        pytest.param(progress(), PART, True, id="enough"),
        pytest.param(progress(segment=PART - 2, tail=1), 1, True, id="with-the-rest"),
        pytest.param(progress(parts=PART), PART - 1, False, id="not-with-other-parts"),
        pytest.param(progress(tail=9, under_way=PART), PART - 9, False, id="not-with-sent-rest"),
        pytest.param(progress(length=PART), PART, False, id="one-object-and-no-part"),
        pytest.param(progress(length=PART + 1), PART, True, id="more-than-one-part"),
        pytest.param(progress(length=PART, is_multipart=True), PART, True, id="begun-in-parts"),
    ],
)
def test_a_part_is_filled_by_all_that_is_not_in_one_yet(
    found: Progress, buffered: int, fills_part: bool
) -> None:
    assert found.fills_part(buffered) is fills_part


@pytest.mark.parametrize(
    ("found", "buffered", "needs_memory"),
    [
        pytest.param(progress(), FREE, False, id="little"),
        pytest.param(progress(), FREE + 1, True, id="more"),
        pytest.param(progress(segment=PART - 1), 1, True, id="fills-a-part"),
        pytest.param(progress(segment=PART - 2), 1, False, id="almost-fills-a-part"),
    ],
)
def test_memory_is_asked_for_by_much_and_by_what_fills_a_part(
    found: Progress, buffered: int, needs_memory: bool
) -> None:
    assert found.needs_memory(buffered) is needs_memory


def test_only_the_end_shows_what_is_staged_or_completes_the_upload() -> None:
    assert progress(length=10).may_be_shown(9)
    assert progress().may_be_shown(9)
    assert not progress(length=10, is_staged=True).may_be_shown(9)
    complete = progress(tail=4, length=10)
    assert complete.has_all(6) and not complete.may_be_shown(6)
    under_way = progress(tail=4, under_way=7, length=10)
    assert under_way.has_all(3) and not under_way.may_be_shown(3)


@pytest.mark.parametrize(
    ("found", "buffered", "is_worth_saving"),
    [
        pytest.param(progress(tail=5, shown=5), 0, False, id="nothing-new"),
        pytest.param(progress(tail=5, shown=5), 1, True, id="a-byte"),
        pytest.param(progress(parts=PART, shown=5), 0, True, id="a-part-that-nobody-sees"),
        pytest.param(progress(is_staged=True), FREE, False, id="staged-and-free"),
        pytest.param(progress(is_staged=True), FREE + 1, True, id="staged-memory"),
        pytest.param(progress(length=9), 9, False, id="whole-and-free"),
        pytest.param(progress(length=FREE + 1), FREE + 1, True, id="whole-memory"),
    ],
)
def test_a_save_shows_more_or_gives_memory_back(
    found: Progress, buffered: int, is_worth_saving: bool
) -> None:
    assert found.is_worth_saving(buffered) is is_worth_saving


def test_parts_that_nobody_sees_are_shown_without_storing_the_buffer() -> None:
    assert progress(parts=PART).has_unshown(5)
    assert not progress(parts=PART, shown=PART).has_unshown(5)
    assert not progress(parts=PART, is_staged=True).has_unshown(5)
    assert not progress(parts=PART, length=PART + 5).has_unshown(5)
