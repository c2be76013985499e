import av
import pytest

from tusasgi.media import HEAD_SIZE, MIN_HEAD_SIZE, detect, formats, measured

from . import corpus
from .others import OTHERS
from .samples import atom, file_type, id3_tag, movie, write


@pytest.mark.parametrize(
    ("recipe", "extension"), [pytest.param(*one, id=one[0].id) for one in corpus.recipes()]
)
def test_what_a_muxer_writes_is_known_or_refused(recipe, extension, tmp_path):
    write(recipe, tmp_path / "file")
    found = detect((tmp_path / "file").read_bytes()[:HEAD_SIZE])
    assert (found and found.extension) == extension


@pytest.mark.parametrize("name", OTHERS)
def test_other_files_are_refused(name):
    data = OTHERS[name]
    sizes = (MIN_HEAD_SIZE, 4096, HEAD_SIZE)
    assert [detect(data[:size]) for size in sizes] == [None, None, None]


@pytest.mark.parametrize(
    "start",
    [
        pytest.param(id3_tag(300) + id3_tag(200), id="two tags"),
        pytest.param(id3_tag(300) + b"junk" * 20, id="junk behind the tag"),
        pytest.param(id3_tag(300)[:-40], id="a wrong length"),
        pytest.param(b"ID3\3\0\0\0\0\0\0", id="an empty tag"),
        pytest.param(bytes(700), id="leading zeros"),
    ],
)
def test_an_mp3_is_known_behind(sample, start):
    assert detect(start + sample("mp3-bare").read_bytes()) == formats.MP3


def test_an_unknown_brand_is_a_movie_when_a_movie_follows():
    assert detect(file_type(b"XYZ1") + movie(b"vide")) == formats.MP4
    assert detect(atom(b"ftyp", b"XYZ1" + bytes(4)) + atom(b"junk", bytes(80))) is None


@pytest.mark.parametrize("kind", [b"free", b"skip", b"uuid", b"wide"])
def test_boxes_that_say_nothing_may_stand_before_the_file_type(kind):
    data = atom(kind, bytes(24)) + file_type(b"isom") + movie(b"soun")
    assert detect(data) == formats.M4A


def test_a_brand_may_end_in_a_zero_byte():
    assert detect(file_type(b"M4A\0") + bytes(40)) == formats.M4A


def test_a_picture_under_the_brand_of_a_movie_is_refused():
    meta = atom(b"meta", bytes(4) + atom(b"hdlr", bytes(8) + b"pict" + bytes(13)))
    assert detect(atom(b"ftyp", b"isom" + bytes(4)) + meta + bytes(80)) is None


@pytest.mark.parametrize("damaged", [{1}, {4}, {1, 2}])
def test_one_of_five_packets_may_be_damaged(sample, damaged):
    data = bytearray(sample("ts").read_bytes()[:4096])
    for number in damaged:
        data[number * 188] = 0
    assert detect(bytes(data)) == (formats.TS if len(damaged) == 1 else None)


def test_an_flv_may_announce_nothing():
    assert detect(b"FLV\1\0\0\0\0\x09" + bytes(80)) == formats.FLV


@pytest.mark.parametrize(
    ("found", "demuxer", "kinds", "expected"),
    [
        (formats.MP4, "mov,mp4,m4a", {"audio"}, formats.M4A),
        (formats.MKV, "matroska,webm", {"audio", "subtitle"}, formats.MKA),
        (formats.ASF, "asf", {"audio"}, formats.WMA),
        (formats.ASF, "asf", {"audio", "video"}, formats.WMV),
        (formats.OGG, "ogg", {"audio", "video"}, formats.OGV),
        (formats.MP3, "flac", {"audio"}, formats.FLAC),
        (formats.MP3, "mp3", {"audio"}, formats.MP3),
        (formats.MP4, "mov,mp4,m4a", set(), formats.MP4),
    ],
)
def test_streams_say_what_a_file_is(found, demuxer, kinds, expected):
    assert measured(found, demuxer=demuxer, kinds=kinds) == expected


def test_a_container_without_a_type_of_sound_keeps_its_own():
    radio = measured(formats.TS, demuxer="mpegts", kinds={"audio"})
    assert (radio.kind, radio.content_type, radio.extension) == ("audio", "video/mp2t", "ts")


def test_every_muxer_is_written_or_says_why_not():
    names = [*" ".join(corpus.NOT_WRITTEN.values()).split(), *corpus.WRITTEN]
    assert len(names) == len(set(names))
    assert {name for name in corpus.WRITTEN if name not in av.formats_available} == set()
