"""What one writer has made in a bucket, and what of it may be removed: no bucket is needed."""

from collections.abc import Iterable
from dataclasses import replace
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tusasgi.stores.s3.ledger import Ledger, Multipart, Removable
from tusasgi.stores.s3.manifest import Manifest, Page, Segment
from tusasgi.testing import new_upload

UPLOAD = new_upload(length=100)
BASE = Manifest(upload=UPLOAD, commit="base", segments=(Segment(key="before", size=1),))
M = Multipart("objects/id", "multipart")
_numbers = count()


def naming(keys: Iterable[str], like: Manifest = BASE, **fields: object) -> Manifest:
    segments = tuple(Segment(key=key, size=1) for key in sorted(keys))
    return replace(like, segments=segments, **fields)  # type: ignore[arg-type]


def after(old: Manifest, new: Manifest) -> Manifest:
    """Return a manifest as it is when it has replaced another one."""
    return replace(new, commit=f"commit-{next(_numbers)}", previous=old.commit)


def commit(ledger: Ledger, manifest: Manifest, draft: Manifest | None = None) -> Manifest:
    """Have a swap take effect, and the writer know it."""
    unused = ledger.unused_by(manifest, draft=draft or manifest)
    manifest = replace(manifest, unused=unused)
    ledger.tried(manifest)
    ledger.commit(after(ledger.committed, manifest))
    return ledger.committed


@pytest.fixture
def ledger() -> Ledger:
    return Ledger(BASE)


# What may be removed.


def test_what_was_made_and_named_by_nobody_may_be_removed(ledger: Ledger) -> None:
    ledger.made(["a", "b"])
    ledger.made_multipart(M.key, M.id)
    for newest in (BASE, after(BASE, BASE), after(after(BASE, BASE), BASE), None):
        assert ledger.removable(newest) == Removable(frozenset("ab"), M)


def test_what_was_there_before_is_not_this_writers_to_remove(ledger: Ledger) -> None:
    assert ledger.removable(after(BASE, naming([]))) == Removable()


def test_what_a_committed_manifest_has_named_is_everybodys(ledger: Ledger) -> None:
    ledger.made(["a"])
    named = commit(ledger, naming(["a", "before"]))
    for newest in (named, after(named, naming([])), None):
        assert ledger.removable(newest) == Removable()


def test_what_a_committed_manifest_notes_as_unused_is_removed_by_others(ledger: Ledger) -> None:
    ledger.made(["a"])
    assert commit(ledger, BASE).unused == ("a",)
    assert ledger.removable(None) == Removable()


def test_what_others_name_by_now_stays(ledger: Ledger) -> None:
    ledger.made(["a", "b"])
    ledger.tried(naming(["a", "before"]))
    newest = after(BASE, naming(["a", "before"]))  # this writer's, and the answer was lost
    assert ledger.removable(newest).keys == {"b"}


DOUBT = {
    "another one came first": (after(BASE, BASE), {"a", "b"}),
    "another one came, and one before it": (after(after(BASE, BASE), BASE), {"b"}),
    "none came yet": (BASE, set()),
    "the upload is gone": (None, {"a", "b"}),
}


@pytest.mark.parametrize("case", DOUBT)
def test_what_a_swap_in_doubt_was_to_name_stays_unless_it_is_sure_to_have_failed(
    case: str, ledger: Ledger
) -> None:
    newest, removable = DOUBT[case]
    ledger.made(["a", "b"])
    ledger.tried(naming(["a", "before"]))
    assert ledger.is_in_doubt
    assert ledger.removable(newest).keys == removable


def test_every_swap_in_doubt_counts_until_one_is_known_to_have_taken_effect(
    ledger: Ledger,
) -> None:
    ledger.made("abc")
    ledger.tried(naming("a"))
    ledger.tried(naming("b"))
    assert ledger.removable(after(after(BASE, BASE), BASE)).keys == {"c"}
    named = commit(ledger, naming("c"), draft=naming("abc"))
    assert not ledger.is_in_doubt
    assert ledger.removable(after(after(named, named), named)).keys == {"a", "b"}


# The multipart upload.


def test_a_multipart_upload_is_ones_own_until_it_is_named_and_again_when_it_is_taken_back(
    ledger: Ledger,
) -> None:
    assert ledger.own_multipart is None
    ledger.made_multipart(M.key, M.id)
    assert ledger.own_multipart == M
    named = commit(ledger, replace(BASE, multipart_id="multipart"))
    assert ledger.own_multipart is None
    assert ledger.removable(named).multipart is None
    assert ledger.removable(None).multipart is None  # whoever removed the upload removes it
    back = commit(ledger, BASE)
    assert ledger.own_multipart == M
    assert ledger.removable(back).multipart == M


def test_a_multipart_upload_that_was_there_before_is_not_this_writers() -> None:
    ledger = Ledger(replace(BASE, multipart_id="before"))
    assert ledger.own_multipart is None
    assert ledger.removable(None).multipart is None


@pytest.mark.parametrize(
    ("newest", "is_removable"),
    [
        pytest.param(BASE, False, id="none-came-yet"),
        pytest.param(after(BASE, BASE), True, id="another-came-first"),
        pytest.param(after(after(BASE, BASE), BASE), True, id="further-ones-came-without-it"),
        pytest.param(
            after(after(BASE, BASE), replace(BASE, multipart_id=M.id)),
            False,
            id="further-ones-came-with-it",
        ),
        pytest.param(None, True, id="the-upload-is-gone"),
    ],
)
def test_a_multipart_upload_in_doubt_goes_if_the_newest_manifest_does_not_name_it(
    newest: Manifest | None, is_removable: bool, ledger: Ledger
) -> None:
    ledger.made_multipart(M.key, M.id)
    ledger.tried(replace(BASE, multipart_id=M.id))
    assert ledger.removable(newest).multipart == (M if is_removable else None)


# What is of no use any more.


def test_what_was_there_before_is_of_use_until_the_last_swap(ledger: Ledger) -> None:
    """It may be taken back."""
    ledger.made(["a"])
    new = naming(["a"])
    assert ledger.unused_by(new, draft=new) == ()
    commit(ledger, new)
    assert ledger.unused_by(BASE, draft=BASE) == ("a",)
    assert ledger.unused_by(new, draft=new, is_last=True) == ("before",)


def test_what_the_draft_names_is_of_use_though_others_do_not_see_it_yet(ledger: Ledger) -> None:
    ledger.made(["a", "b"])
    assert ledger.unused_by(BASE, draft=naming(["a"])) == ("b",)


def test_what_is_of_no_use_is_noted_once(ledger: Ledger) -> None:
    ledger.made(["a"])
    commit(ledger, naming(["a", "before"]))
    assert commit(ledger, BASE).unused == ("a",)
    assert commit(ledger, BASE).unused == ()


def test_pages_are_named_as_segments_are(ledger: Ledger) -> None:
    ledger.made(["page", "other"])
    paged = replace(BASE, pages=(Page(key="page", count=500),))
    assert commit(ledger, paged).unused == ("other",)
    assert commit(ledger, BASE).unused == ("page",)


# All orders.


class Bucket:
    """The manifest of an upload in a bucket, which is replaced by compare-and-swap."""

    def __init__(self) -> None:
        self.newest = BASE

    def swap(self, old: Manifest, new: Manifest) -> bool:
        if self.newest.commit != old.commit:
            return False
        self.newest = after(old, new)
        return True


keys = st.sets(st.sampled_from("abcd"))


@given(
    swaps=st.lists(st.tuples(keys, keys, st.sampled_from(["known", "never"])), max_size=3),
    last=st.tuples(keys, keys, st.sampled_from(["known", "never", "answer lost", "late"])),
    others=st.lists(st.none() | keys, max_size=3),
)
def test_nothing_that_anybody_names_or_may_return_to_is_ever_removable(
    swaps: list[tuple[set[str], set[str], str]],
    last: tuple[set[str], set[str], str],
    others: list[set[str] | None],
) -> None:
    """Whatever this writer named, whichever answers it got, and whatever others did then.

    A swap is what it makes, what it keeps of the manifest before, and what becomes of it. Of the
    others each keeps something of the manifest before, or returns to where they began (None).
    """
    bucket, ledger = Bucket(), Ledger(BASE)
    made: set[str] = set()
    for number, (new, kept, outcome) in enumerate([*swaps, last]):
        fresh = {f"{key}{number}" for key in new}
        made |= fresh
        ledger.made(fresh)
        old = ledger.committed
        shown = naming(fresh | {key for key in old.names if key[0] in kept})
        shown = replace(shown, unused=ledger.unused_by(shown, draft=shown))
        ledger.tried(shown)
        if outcome in ("known", "answer lost"):
            assert bucket.swap(old, shown)
        if outcome == "known":
            ledger.commit(bucket.newest)
    their_base = bucket.newest
    for keeps in others:
        theirs = {key for key in bucket.newest.names if keeps is not None and key[0] in keeps}
        assert bucket.swap(bucket.newest, their_base if keeps is None else naming(theirs))
    removable = ledger.removable(bucket.newest).keys
    if last[2] == "late" and bucket.swap(ledger.committed, shown):
        their_base = bucket.newest
    assert removable <= made
    assert not removable & (bucket.newest.names | their_base.names)
    is_sure = len(others) == 1 and "answer lost" not in last
    assert not is_sure or not ledger.is_in_doubt or fresh <= removable
