"""Heads of files that hold sound as it is, and are none: what a search for frames must not find.

    python -m tests.media.heads [--heads 10000] [--seed 14] [FOLDER ...]

says how many are let in. With folders, the files in them are judged as well, and those that are
let in are named.
"""

import argparse
import gzip
import io
import random
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from tusasgi.media import HEAD_SIZE, detect

from .samples import RECIPES, write

STREAMS = ("mp3-bare", "mp3-bare-44100", "mp2", "aac", "loas", "ac3", "eac3", "ts", "m2ts")
_ALPHABETS = (
    "abcdefghijklmnopqrstuvwxyz_- 0123456789",
    "абвгдежзийклмнопрст",
    "日本語音楽漢字仮名",
)


class Chance(random.Random):
    """Names, numbers and sound by chance."""

    def __init__(self, seed: object, streams: Mapping[str, bytes]) -> None:
        super().__init__(str(seed))
        self._streams = streams

    def name(self) -> str:
        letters = self.choice(_ALPHABETS)
        return "".join(self.choices(letters, k=self.randint(1, 30))).strip() + ".mp3"

    def number(self) -> int:
        return self.randint(0, 1 << self.randint(1, 31))

    def sound(self) -> bytes:
        """Frames or packets, long enough for any head, from their start or from anywhere."""
        stream = self._streams[self.choice(STREAMS)]
        return stream[self.choice((0, 0, self.randrange(5000))) :]

    def when(self) -> tuple[int, int, int, int, int, int]:
        return (
            self.randint(1980, 2030),
            self.randint(1, 12),
            self.randint(1, 28),
            self.randint(0, 23),
            self.randint(0, 59),
            self.randint(0, 59),
        )


def _zip(chance: Chance) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for _ in range(chance.randint(1, 3)):
            member = zipfile.ZipInfo(chance.name(), chance.when())
            member.extra = chance.choice((b"", b"UT\5\0\1" + chance.randbytes(4)))
            archive.writestr(member, chance.choice((chance.sound(), chance.randbytes(99))))
    return buffer.getvalue()


def _deflated_zip(chance: Chance) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo(chance.name(), chance.when()), chance.sound())
    return buffer.getvalue()


def _tar(chance: Chance) -> bytes:
    buffer = io.BytesIO()
    form = chance.choice((tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT))
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for _ in range(chance.randint(1, 3)):
            member = tarfile.TarInfo(chance.name())
            content = chance.sound()
            member.size, member.mtime, member.uid = (
                len(content),
                chance.number(),
                chance.randint(0, 1 << 20),
            )
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def _gzip(chance: Chance) -> bytes:
    buffer = io.BytesIO()
    name = chance.choice(("", chance.name()))
    with gzip.GzipFile(name, "wb", chance.choice((0, 6)), buffer, chance.number()) as file:
        file.write(chance.sound())
    return buffer.getvalue()


def _zlib(chance: Chance) -> bytes:
    return zlib.compress(chance.sound(), chance.choice((0, 6)))


def _seven_zip(chance: Chance) -> bytes:
    place = struct.pack("<QQ", chance.number(), chance.number())
    start = b"7z\xbc\xaf\x27\x1c\0\4" + chance.randbytes(4) + place + chance.randbytes(4)
    return start + chance.sound()


def _rar(chance: Chance) -> bytes:
    name = chance.name().encode()
    file = struct.pack("<HBHHIIBIIBBHI", chance.number() & 0xFFFF, 0x74, 0x8000, 32 + len(name),
        chance.number(), chance.number(), 3, chance.number(), chance.number(), 20, 0x30,
        len(name), 32)  # fmt: skip
    return b"Rar!\x1a\7\0" + b"\xcf\x90\x73\0\0\x0d\0" + bytes(6) + file + name + chance.sound()


def _rar5(chance: Chance) -> bytes:
    block = chance.randbytes(4) + b"\x0c\1\5\x08\0\7\1\1" + chance.randbytes(6)
    file = chance.randbytes(4) + b"\x2a\2\3\x0b" + chance.randbytes(14) + b"\x80\0\0"
    return b"Rar!\x1a\7\1\0" + block + file + chance.name().encode() + chance.sound()


def _cpio(chance: Chance) -> bytes:
    fields = b"".join(b"%08X" % chance.number() for _ in range(13))
    return b"070701" + fields + chance.name().encode() + b"\0" + chance.sound()


def _ar(chance: Chance) -> bytes:
    line = f"{'song.mp3':16}{chance.number():<12}{0:<6}{0:<6}{'100644':8}{9999:<10}`\n"
    return b"!<arch>\n" + line.encode() + chance.sound()


def _http(chance: Chance) -> bytes:
    line = chance.choice(("--" + chance.randbytes(9).hex(), "HTTP/1.1 200 OK"))
    return f"{line}\r\nContent-Type: audio/mpeg\r\n\r\n".encode() + chance.sound()


def _game(chance: Chance) -> bytes:
    """A pack of a game: a magic word, numbers, names, and the files as they are."""
    numbers = [struct.pack("<I", chance.number()) for _ in range(chance.randint(2, 20))]
    return chance.choice((b"PACK", b"DATA", b"\x89GP\1")) + b"".join(numbers) + chance.sound()


def _columns(chance: Chance) -> bytes:
    """A text whose lines are as long as packets, or half, or a quarter."""
    width = chance.choice((47, 48, 51, 64, 94, 96, 102, 188, 192, 204))
    start = "".join(chance.choices("GHI 0123456789", k=5))
    lines = (
        f"{start}{chance.number():>12} {chance.name()}"[: width - 1].ljust(width - 1) + "\n"
        for _ in range(400)
    )
    return chance.choice(("", "a heading of the table\n")).encode() + "".join(lines).encode()


def _noise(chance: Chance) -> bytes:
    return chance.randbytes(chance.choice((64, 512, 4096, HEAD_SIZE)))


def _noise_with_a_sync(chance: Chance) -> bytes:
    syncs = (
        b"\xff\xfb",
        b"\xff\xfd",
        b"\xff\xf1",
        b"\x56\xe0",
        b"\x0b\x77",
        b"G@\0\x10",
        b"ID3\3\0",
    )
    return b"".join(
        chance.choice(syncs) + chance.randbytes(chance.randint(1, 400)) for _ in range(80)
    )


def _picture(chance: Chance) -> bytes:
    exif = b"\xff\xd8\xff\xe1" + struct.pack(">H", chance.randint(8, 400)) + b"Exif\0\0"
    return exif + chance.randbytes(HEAD_SIZE).replace(b"\xff", b"\xff\0")


KINDS: dict[str, Callable[[Chance], bytes]] = {
    "ZIP, stored": _zip,
    "ZIP, deflated": _deflated_zip,
    "TAR": _tar,
    "gzip": _gzip,
    "zlib": _zlib,
    "7z": _seven_zip,
    "RAR 4": _rar,
    "RAR 5": _rar5,
    "cpio": _cpio,
    "ar": _ar,
    "HTTP": _http,
    "pack of a game": _game,
    "text in columns": _columns,
    "noise": _noise,
    "noise with syncs": _noise_with_a_sync,
    "JPEG": _picture,
}


def all_streams(read: Callable[[str], bytes]) -> dict[str, bytes]:
    """The streams that heads are made of, repeated until they are longer than any head."""
    return {id: read(id) * (2 + 2 * HEAD_SIZE // len(read(id))) for id in STREAMS}


def heads(chance: Chance, count: int) -> Iterator[tuple[str, bytes]]:
    """Heads of each kind in turn."""
    names = list(KINDS)
    for number in range(count):
        name = names[number % len(names)]
        yield name, KINDS[name](chance)[:HEAD_SIZE]


def _written(id: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "stream")
        write(next(recipe for recipe in RECIPES if recipe.id == id), path)
        return path.read_bytes()


def _print_let_in(chance: Chance, count: int) -> None:
    made: Counter[str] = Counter()
    let_in: Counter[str] = Counter()
    for name, head in heads(chance, count):
        made[name] += 1
        let_in[name] += detect(head) is not None
    for name, number in made.items():
        print(f"{let_in[name]:6} of {number:6} let in: {name}")
    print(f"{let_in.total():6} of {made.total():6} let in")


def _print_folder(folder: Path) -> None:
    seen = 0
    for path in folder.rglob("*"):
        if path.is_symlink() or not path.is_file():
            continue
        with path.open("rb") as file:
            media = detect(file.read(HEAD_SIZE))
        seen += 1
        if media is not None:
            print(f"{media.content_type}: {path}")
    print(f"{seen:6} files in {folder}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.media.heads")
    parser.add_argument("--heads", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=14)
    parser.add_argument("folders", nargs="*", type=Path)
    options = parser.parse_args()
    streams = all_streams(_written)
    chance = Chance(options.seed, streams)
    _print_let_in(chance, options.heads)
    for folder in options.folders:
        _print_folder(folder)


if __name__ == "__main__":
    main()
