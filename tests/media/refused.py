"""Heads of files that are neither audio nor video, real ones wherever Python can make them."""

import bz2
import gzip
import io
import json
import lzma
import pathlib
import plistlib
import random
import sqlite3
import struct
import sys
import tarfile
import wave
import zipfile
import zlib

from .samples import atom, file_type, id3_tag, movie, ogg_page

_TEXT = b"The quick brown fox jumps over the lazy dog, and then it does so again.\n" * 90
_RANDOM = random.Random(7).randbytes(2000)


def _png() -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    size = struct.pack(">IIBBBBB", 4, 4, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(13) * 4)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


def _zip(*names: str, compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name in names:
            archive.writestr(name, _TEXT)
    return buffer.getvalue()


def _epub() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("mimetype", "application/epub+zip")
        archive.writestr("META-INF/container.xml", _TEXT)
    return buffer.getvalue()


def _tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        member = tarfile.TarInfo("song.mp3")
        member.size = len(_TEXT)
        archive.addfile(member, io.BytesIO(_TEXT))
    return buffer.getvalue()


def _sqlite() -> bytes:
    connection = sqlite3.connect(":memory:")
    connection.execute("create table song (title text)")
    data = connection.serialize()
    connection.close()
    return data


def _wave_named_as(form: bytes) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as out:
        out.setparams((1, 2, 8000, 0, "NONE", "not compressed"))
        out.writeframes(bytes(400))
    data = bytearray(buffer.getvalue())
    data[8:12] = form
    return bytes(data)


def _executable() -> bytes:
    with pathlib.Path(sys.executable).open("rb") as file:
        return file.read(8192)


def _matroska(doctype: bytes, track_type: int | None = None) -> bytes:
    def element(kind: bytes, body: bytes) -> bytes:
        return kind + bytes([0x80 | len(body)]) + body

    header = element(b"\x1a\x45\xdf\xa3", element(b"\x42\x82", doctype))
    if track_type is None:
        return header + bytes(100)
    track = element(b"\xae", element(b"\x83", bytes([track_type])))
    return header + element(b"\x18\x53\x80\x67", element(b"\x16\x54\xae\x6b", track))


REFUSED = {
    "pdf": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<< /Type /Catalog >>\nendobj\n" + _TEXT,
    "png": _png(),
    "jpeg": b"\xff\xd8\xff\xe0\0\x10JFIF\0\1\1\0\0H\0H\0\0\xff\xdb\0C\0" + bytes(64),
    "jpeg-exif": b"\xff\xd8\xff\xe1\x12\x34Exif\0\0MM\0*\0\0\0\x08" + bytes(64),
    "gif": b"GIF89a\1\0\1\0\x80\0\0\xff\xff\xff\0\0\0,\0\0\0\0\1\0\1\0\0\2\2D\1\0;" + bytes(40),
    "bmp": b"BM" + struct.pack("<IHHIIiiHH", 154, 0, 0, 54, 40, 5, 5, 1, 24) + bytes(100),
    "tiff-little": b"II*\0\x08\0\0\0" + bytes(90),
    "tiff-big": b"MM\0*\0\0\0\x08" + bytes(90),
    "webp": b"RIFF\x24\0\0\0WEBPVP8 \x18\0\0\0" + bytes(64),
    "webp-animated": b"RIFF\x24\0\0\0WEBPVP8X\x0a\0\0\0\2" + bytes(64),
    "ico": b"\0\0\1\0\1\0\x10\x10\0\0\1\0\x20\0" + bytes(64),
    "psd": b"8BPS\0\1" + bytes(6) + b"\0\3\0\0\0\x10\0\0\0\x10" + bytes(64),
    "avif": file_type(b"avif", b"mif1", b"miaf", b"iso8"),
    "avif-sequence": file_type(b"avis", b"iso8", b"mp42", b"msf1") + movie(b"vide"),
    "heic": file_type(b"heic", b"mif1", b"heic"),
    "heic-sequence": file_type(b"hevc", b"iso8", b"isom", b"msf1") + movie(b"vide"),
    "heif": file_type(b"mif1", b"heic", b"iso8"),
    "canon-raw": file_type(b"crx ", b"isom"),
    "jpeg2000-brand": file_type(b"jp2 ", b"jp2 "),
    "jpeg2000": b"\0\0\0\x0cjP  \r\n\x87\n" + file_type(b"jp2 ", b"jp2 "),
    "jpeg2000-codestream": b"\xff\x4f\xff\x51\0\x2f\0\0" + bytes(64),
    "jpeg-xl": b"\0\0\0\x0cJXL \r\n\x87\n" + file_type(b"jxl ", b"jxl "),
    "unknown-brand": atom(b"ftyp", b"ABCD\0\0\0\0EFGH") + atom(b"abcd", bytes(90)),
    "mp4-of-subtitles": file_type(b"isom") + movie(b"subt"),
    "reference-movie": atom(b"moov", atom(b"rmra", atom(b"rmda", bytes(80)))),
    "media-segment": atom(b"styp", b"msdh\0\0\0\0msdh") + atom(b"sidx", bytes(90)),
    "gap-before-an-unknown-atom": atom(b"free", bytes(8)) + atom(b"abcd", bytes(90)),
    "text-with-mdat": b"see mdat " + _TEXT,
    "text-with-moov": b"see moov " + _TEXT,
    "text-with-free": b"be: free " + _TEXT,
    "text-with-wide": b"far wide " + _TEXT,
    "text-with-ftyp": b"the ftypisom" + _TEXT,
    "svg": b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"></svg>' + _TEXT,
    "html": b"<!DOCTYPE html><html><head><title>RIFF</title></head><body>" + _TEXT,
    "xml": b'<?xml version="1.0" encoding="UTF-8"?><root/>' + _TEXT,
    "plist": plistlib.dumps({"a": "b" * 90}, fmt=plistlib.FMT_BINARY),
    "json": json.dumps([{"ftyp": "isom"}] * 30).encode(),
    "csv": b"id,name,ftyp\r\n" + b"1,song,mp42\r\n" * 90,
    "text": _TEXT,
    "text-utf-16": _TEXT.decode().encode("utf-16"),
    "text-of-one-letter": b"G" * 4096,
    "zip": _zip("a.txt"),
    "zip-stored": _zip("song.mp3", compression=zipfile.ZIP_STORED),
    "docx": _zip("[Content_Types].xml", "word/document.xml"),
    "epub": _epub(),
    "gzip": gzip.compress(_RANDOM),
    "bzip2": bz2.compress(_RANDOM),
    "xz": lzma.compress(_RANDOM),
    "zstd": b"\x28\xb5\x2f\xfd\x24\x10" + _RANDOM,
    "7z": b"7z\xbc\xaf\x27\x1c\0\4" + _RANDOM,
    "rar": b"Rar!\x1a\7\1\0" + _RANDOM,
    "tar": _tar(),
    "exe": b"MZ\x90\0\3\0\0\0\4\0\0\0\xff\xff\0\0" + bytes(44) + b"\x80\0\0\0PE\0\0" + _RANDOM,
    "executable-of-this-machine": _executable(),
    "elf": b"\x7fELF\2\1\1\0" + bytes(8) + b"\2\0\x3e\0\1\0\0\0" + bytes(90),
    "mach-o": b"\xcf\xfa\xed\xfe\7\0\0\1\3\0\0\0\2\0\0\0" + bytes(90),
    "java-class": b"\xca\xfe\xba\xbe\0\0\0\x3d\0\x1d" + bytes(90),
    "python-bytecode": b"\xa7\r\r\n" + bytes(12) + _RANDOM,
    "wasm": b"\0asm\1\0\0\0\1\7\1\x60\2\x7f\x7f\1\x7f" + bytes(90),
    "sqlite": _sqlite(),
    "zeros": bytes(4096),
    "ones": b"\xff" * 4096,
    "pcap": struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65_535, 1) + _RANDOM,
    "pcapng": b"\x0a\x0d\x0d\x0a\x1c\0\0\0\x4d\x3c\x2b\x1a\1\0\0\0" + b"\xff" * 8 + _RANDOM,
    "ttf": b"\0\1\0\0\0\x0e\0\x80\0\3\0\x60" + b"OS/2" + bytes(90),
    "otf": b"OTTO\0\x0b\0\x80\0\3\0\x30" + bytes(90),
    "woff": b"wOFF\0\1\0\0" + bytes(90),
    "woff2": b"wOF2\0\1\0\0" + bytes(90),
    "shell-script": b"#!/bin/sh\nset -eu\necho done\n" + _TEXT,
    "python-source": b'"""A module."""\n\nimport os\n' + _TEXT,
    "rtf": b"{\\rtf1\\ansi\\deff0 " + _TEXT,
    "iso-image": bytes(32_768) + b"\1CD001\1" + bytes(2041),
    "apple-disk-image": b"\x78\xda" + _RANDOM,
    "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n" + _TEXT,
    "ogg-in-letters-only": b"OggS is a container " + _TEXT,
    "ogg-with-text": ogg_page(b"CMML\0\0\0\0".ljust(29, b"\0")),
    "midi": b"MThd\0\0\0\6\0\1\0\2\1\xe0MTrk\0\0\0\x3b" + bytes(60),
    "riff-midi": b"RIFF\x80\0\0\0RMIDdata\x6c\0\0\0MThd" + bytes(60),
    "subrip": b"1\n00:00:01,000 --> 00:00:04,000\nHello.\n\n" * 9,
    "webvtt": b"WEBVTT\n\n00:01.000 --> 00:04.000\nHello.\n\n" * 9,
    "m3u": b"#EXTM3U\n#EXTINF:123,Song\nhttp://media.example/song.mp3\n" * 9,
    "hls": b"#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile:///etc/passwd\n",
    "dash": b'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"/>' + _TEXT,
    "pls": b"[playlist]\nFile1=http://media.example/song.mp3\nNumberOfEntries=1\n" * 2,
    "asx": b"[Reference]\nRef1=http://media.example/song.asf?MSWMExt=.asf\n" * 2,
    "sdp": b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nm=audio 5004 RTP/AVP 0\r\n" * 2,
    "concat-script": b"ffconcat version 1.0\nfile '/etc/passwd'\nduration 1\n" * 3,
    "iff-image": b"FORM\0\0\1\0ILBMBMHD\0\0\0\x14" + bytes(90),
    "djvu": b"AT&TFORM\0\0\1\0DJVUINFO" + bytes(90),
    "swf": b"FWS\7" + struct.pack("<I", 900) + bytes(90),
    "swf-compressed": b"CWS\7" + struct.pack("<I", 900) + zlib.compress(_RANDOM),
    "riff-cursor": _wave_named_as(b"ACON"),
    "riff-soundfont": _wave_named_as(b"sfbk"),
    "riff-unknown": _wave_named_as(b"NONE"),
    "matroska-of-another-kind": _matroska(b"other"),
    "matroska-of-subtitles": _matroska(b"matroska", 17),
    "matroska-magic-alone": b"\x1a\x45\xdf\xa3" + bytes(90),
    "flac-in-letters-only": b"fLaC is lossless " + _TEXT,
    "id3-in-letters-only": b"ID3 is a tag " + _TEXT,
    "id3-with-a-size-of-text": b"ID3\3\0\0\xff\xff\xff\xffTIT2" + bytes(90),
    "id3-over-text": id3_tag(90) + _TEXT,
    "amr-with-a-wrong-marker": b"#!AMRx" + bytes(90),
    "amr-over-text": b"#!AMR\n" + _TEXT,
    "one-mp3-header-and-no-second": b"\xff\xfb\x90\x64" + bytes(4000),
    "two-mp3-headers-of-two-streams": b"\xff\xfb\x90\x64".ljust(417, b"\1")
    + b"\xff\xfb\x94\x64".ljust(384, b"\1"),
    "one-aac-header-and-no-second": b"\xff\xf1\x50\x80\x2e\x7f\xfc" + bytes(4000),
    "one-ac3-header-and-no-second": b"\x0b\x77\0\0\x14\x40" + bytes(4000),
    "sync-bytes-and-reserved-content": (b"\x47\x1f\xff\x0f" + bytes(184)) * 6,
    "mpeg-elementary-video": b"\0\0\1\xb3\x16\0\xf0\xc4" + bytes(90),
    "h264-elementary-video": b"\0\0\0\1\x67\x42\xc0\x1e" + bytes(90),
    "pack-header-over-text": b"\0\0\1\xba" + _TEXT,
    "mxf-key-of-another-kind": b"\x06\x0e\x2b\x34\2\x53\1\1" + bytes(90),
    "caf-in-letters-only": b"caffeine " + _TEXT,
    "au-in-letters-only": b".snd is a sound " + _TEXT,
    "wavpack-in-letters-only": b"wvpk " + _TEXT,
    "ape-in-letters-only": b"MAC OS X " + _TEXT,
    "flv-in-letters-only": b"FLV\1video " + _TEXT,
    "dv-marker-alone": b"\x1f\x07\0\x3f" + _RANDOM,
    "y4m-in-letters-only": b"YUV4MPEG is raw " + _TEXT,
    "tracker-module": b"Extended Module: a song".ljust(60, b" ") + bytes(60),
}
