import random
import re
from datetime import UTC, datetime
from pathlib import Path

import av
import puremagic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tusasgi.errors import UnsupportedMedia
from tusasgi.media import (
    FORMATS,
    HEAD_SIZE,
    MIN_HEAD_SIZE,
    MediaFormat,
    MediaHooks,
    detect,
    formats,
    frames,
    pattern,
)
from tusasgi.media.signatures import find_signatures
from tusasgi.models import Upload

from .refused import REFUSED
from .samples import HAND_MADE, RECIPES, file_type, id3_tag, movie

DOCS = Path(__file__).parents[2] / "docs" / "media.md"

# What the first 64 bytes leave open: they say the container, and the tracks come later.
BROAD_AT_64 = {
    "mp4-audio-streamable": "mp4",
    "3gp-audio": "3gp",
    "3g2-audio": "3g2",
    "mka": "mkv",
    "weba": "webm",
    "ogv-sound-first": "opus",
    "wma": "asf",
    "wmv": "asf",
    "wmv-sound-first": "asf",
    "rm-audio": "rm",
}
# Frames longer than 64 bytes whose headers alone prove too little.
UNDECIDED_AT_64 = {"ac3", "ac3-44100", "eac3", "mp2"}

every_recipe = pytest.mark.parametrize("recipe", [pytest.param(r, id=r.id) for r in RECIPES])
every_hand_made_head = pytest.mark.parametrize(
    "head", [pytest.param(h, id=h.id) for h in HAND_MADE]
)


def triple(found):
    return found and (found.kind, found.content_type, found.extension)


@every_recipe
@pytest.mark.parametrize("size", [4096, HEAD_SIZE])
def test_a_real_file_is_known_by_its_head(sample, recipe, size):
    head = sample(recipe.id).read_bytes()[:size]
    assert triple(detect(head)) == (recipe.kind, recipe.content_type, recipe.extension)


@every_recipe
def test_64_bytes_of_a_real_file_are_enough(sample, recipe):
    found = detect(sample(recipe.id).read_bytes()[:MIN_HEAD_SIZE])
    if recipe.id in UNDECIDED_AT_64:
        assert found is None
    else:
        assert found is not None
        assert found.extension == BROAD_AT_64.get(recipe.id, recipe.extension)


@every_recipe
def test_a_longer_head_never_turns_a_file_away(sample, recipe):
    data = sample(recipe.id).read_bytes()
    enough = 4096 if recipe.id in UNDECIDED_AT_64 else MIN_HEAD_SIZE
    assert all(detect(data[:size]) for size in range(enough, min(len(data), 5000), 61))


@every_hand_made_head
def test_a_head_by_the_book_is_known(head):
    found = detect(head.data)
    assert found is not None
    assert (found.content_type, found.extension) == (head.content_type, head.extension)


@every_recipe
def test_what_is_found_is_what_some_rule_announces(sample, recipe):
    found = detect(sample(recipe.id).read_bytes()[:HEAD_SIZE])
    assert any(found in rule.formats for rule in FORMATS)


def test_every_announced_format_has_a_sample():
    known = {(r.content_type, r.extension, r.kind) for r in RECIPES}
    known |= {(h.content_type, h.extension, h.content_type.split("/")[0]) for h in HAND_MADE}
    announced = {(f.content_type, f.extension, f.kind) for rule in FORMATS for f in rule.formats}
    assert announced == known


def opens(path, data):
    path.write_bytes(data)
    with av.open(str(path)) as opened:
        return opened.duration > 0


def test_old_quicktime_without_a_file_type_is_known(sample, tmp_path):
    data = sample("mov").read_bytes()
    data = data[data.index(b"wide") - 4 :]
    assert opens(tmp_path / "old.mov", data)
    assert detect(data[:MIN_HEAD_SIZE]) == formats.MOV


def test_transport_streams_with_error_correction_are_known(sample, tmp_path):
    data = sample("ts").read_bytes()
    packets = [data[at : at + 188] + bytes(16) for at in range(0, len(data), 188)]
    assert opens(tmp_path / "204.ts", b"".join(packets))
    assert detect(b"".join(packets)[:4096]) == formats.TS


@pytest.mark.parametrize("size", [500, 4096, 16_000, 300_000])
@pytest.mark.parametrize("version", [2, 3, 4])
@pytest.mark.parametrize(
    ("id", "expected"), [("mp3-bare", formats.MP3), ("aac", formats.AAC), ("mp2", formats.MP2)]
)
def test_a_tag_leaves_the_judgement_to_what_follows_it(sample, id, expected, size, version):
    data = id3_tag(size, version) + sample(id).read_bytes()
    # A tag longer than the head hides it.
    assert detect(data) == (expected if size < HEAD_SIZE else formats.MP3)


def test_an_mp3_under_a_picture_opens(sample, tmp_path):
    assert opens(tmp_path / "cover.mp3", id3_tag(40_000) + sample("mp3-bare").read_bytes())


def test_padding_after_a_tag_is_passed_over(sample):
    assert detect(id3_tag(500) + bytes(300) + sample("mp3-bare").read_bytes()) == formats.MP3


def test_an_mp3_cut_from_the_middle_needs_a_second_frame(sample):
    data = sample("mp3-bare-44100").read_bytes()
    second = data.index(data[:2], 400)
    cut = data[second:]
    assert not frames._starts_a_bit_reservoir(cut)
    assert detect(cut[:MIN_HEAD_SIZE]) is None
    assert detect(cut[:1024]) == formats.MP3


def test_the_kind_of_an_mp4_follows_its_tracks_only_when_all_are_seen():
    audio = file_type(b"isom") + movie(b"soun")
    assert detect(audio) == formats.M4A
    assert detect(audio[:-1]) == formats.MP4
    assert detect(file_type(b"isom") + movie(b"soun", b"vide")) == formats.MP4


@pytest.mark.parametrize("data", [pytest.param(d, id=i) for i, d in REFUSED.items()])
def test_what_is_neither_audio_nor_video_is_refused(data):
    assert [detect(data[:size]) for size in (4096, HEAD_SIZE)] == [None, None]


def test_zeros_and_short_heads_are_refused():
    assert not any(detect(bytes(size)) for size in range(300))


@pytest.mark.parametrize("size", [64, 512, 4096])
def test_random_bytes_are_refused(size):
    source = random.Random(size)
    # The rules of puremagic are left out here: they take long signatures.
    own = [rule.judge for rule in FORMATS if rule.magic is None]
    for _ in range(20_000):
        head = source.randbytes(size)
        assert not any(judge(head) for judge in own), head


@pytest.mark.parametrize(
    "start",
    [
        pytest.param(start, id=start.hex())
        for start in (
            b"\xff\xfb", b"\xff\xfa", b"\xff\xf3", b"\xff\xfd", b"\xff\xf1", b"\xff\xf9",
            b"\x0b\x77", b"\x47", b"ID3", b"OggS", b"RIFF", b"FORM", b"\x1a\x45\xdf\xa3",
            b"\0\0\0\x20ftyp", b"\0\0\1\xba", b"\x1f\x07\0", b"FLV\1", b"wvpk", b"MAC ", b"caff",
        )
    ],
)  # fmt: skip
def test_random_bytes_after_the_start_of_a_signature_are_refused(start):
    source = random.Random(start)
    assert not any(detect(start + source.randbytes(4000)) for _ in range(500))


@given(st.binary(max_size=300))
def test_any_bytes_get_the_same_answer_twice(head):
    assert detect(head) == detect(bytes(bytearray(head)))


STARTS = [h.data for h in HAND_MADE] + [*REFUSED.values()]


@given(st.sampled_from(STARTS), st.integers(0, 200), st.binary(max_size=100))
def test_no_cut_and_no_wrong_tail_raises(start, size, tail):
    detect(start[:size] + tail)


@every_recipe
def test_no_cut_and_no_broken_byte_of_a_real_file_raises(sample, recipe):
    data = sample(recipe.id).read_bytes()[:2000]
    source = random.Random(recipe.id)
    for size in range(0, min(len(data), 200)):
        detect(data[:size])
    for _ in range(200):
        broken = bytearray(data)
        for _ in range(3):
            broken[source.randrange(min(len(data), 120))] = source.randrange(256)
        detect(bytes(broken))


def test_bytes_beyond_the_head_change_nothing():
    assert detect(id3_tag(HEAD_SIZE + 10) + REFUSED["png"]) == formats.MP3


def upload():
    return Upload(id="u", length=100, created=datetime.now(UTC))


@pytest.mark.anyio
async def test_the_hooks_keep_what_the_upload_is(sample):
    hooks = MediaHooks()
    assert (hooks.head_size, hooks.min_head_size) == (HEAD_SIZE, 64)
    facts = await hooks.inspect(upload(), sample("mp4").read_bytes()[:64])
    assert facts == {"type": "video", "content_type": "video/mp4", "extension": "mp4"}


@pytest.mark.anyio
@pytest.mark.parametrize("head", [b"", b"x" * 64, REFUSED["hls"]])
async def test_the_hooks_refuse_what_no_rule_knows(head):
    with pytest.raises(UnsupportedMedia) as refusal:
        await MediaHooks().inspect(upload(), head)
    assert (
        str(refusal.value) == f"the first {len(head)} bytes are of no known audio or video format"
    )


@pytest.mark.anyio
async def test_a_host_changes_the_table(sample):
    dsf = MediaFormat(kind="audio", content_type="audio/x-dsf", extension="dsf")

    class OwnHooks(MediaHooks):
        formats = (pattern("DSF", rb"DSD \x1c", dsf),)

    assert await OwnHooks().inspect(upload(), b"DSD \x1c" + bytes(80)) == dsf.facts
    with pytest.raises(UnsupportedMedia):
        await OwnHooks().inspect(upload(), sample("wav").read_bytes()[:64])


def test_every_signature_that_a_rule_takes_from_puremagic_is_found(sample):
    heads = [sample(recipe.id).read_bytes()[:HEAD_SIZE] for recipe in RECIPES]
    heads += [head.data for head in HAND_MADE]
    found = [find_signatures(head) for head in heads]
    for magic in {rule.magic for rule in FORMATS if rule.magic}:
        assert any(one.get(magic.extension, 0) >= magic.length for one in found), magic


def _as_puremagic_says(head):
    try:
        matches = puremagic.magic_string(head)
    except puremagic.PureError:
        return {}
    found = {}
    for match in matches:
        found[match.extension] = max(found.get(match.extension, 0), len(match.byte_match))
    return found


def _put(signature, head):
    start = signature.offset if signature.offset >= 0 else len(head) + signature.offset
    if 0 <= start <= len(head) - len(signature.byte_match):
        head[start : start + len(signature.byte_match)] = signature.byte_match


@pytest.mark.parametrize(
    "signatures",
    [
        pytest.param([[one] for one in puremagic.magic_header_array], id="first"),
        pytest.param([[one] for one in puremagic.magic_footer_array], id="last"),
        pytest.param(
            [
                [first, second]
                for first in [*puremagic.magic_header_array, *puremagic.magic_footer_array]
                for second in puremagic.multi_part_dict.get(first.byte_match, ())
            ],
            id="second",
        ),
    ],
)
def test_signatures_are_those_that_puremagic_finds(signatures):
    size = max(one.offset + len(one.byte_match) for found in signatures for one in found)
    for put in signatures:
        head = bytearray(max(size, 0) + 100)
        for signature in put:
            _put(signature, head)
        assert find_signatures(bytes(head)) == _as_puremagic_says(bytes(head)), put


def test_the_documented_table_is_the_table():
    row = re.compile(r"^\| (audio|video) \| `([^`]+)` \| `([^`]+)` \|", re.MULTILINE)
    documented = row.findall(DOCS.read_text())
    announced = {(f.kind, f.content_type, f.extension) for rule in FORMATS for f in rule.formats}
    assert len(documented) == len(set(documented))
    assert set(documented) == announced


def test_the_documented_code_runs():
    blocks = re.findall(r"^```python\n(.*?)^```", DOCS.read_text(), re.DOTALL | re.MULTILINE)
    assert blocks
    for block in blocks:
        exec(compile(block, str(DOCS), "exec"), {})
