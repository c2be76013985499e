"""Look for input that breaks something, for as long as it is told to.

    python -m tests.fuzz media --seconds 60      damaged files into the measuring program
    python -m tests.fuzz headers --seconds 60    one of `targets.py`: headers, draft, texts, head

Parsers are searched by atheris, which sees what code an input reaches, or where it is not
installed (`pip install atheris`) by hypothesis. Ends with 1 when something was found.
"""

import argparse
import importlib.util
import secrets
import sys
import tempfile
import time
from pathlib import Path

import anyio

LONGEST = 20_000


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/fuzz")
    parser.add_argument("target", choices=["media", "headers", "draft", "texts", "head"])
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=secrets.randbits(31))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    if options.target == "media":
        from .media import search

        sys.exit(anyio.run(search, options.seconds, options.seed))
    if importlib.util.find_spec("atheris") is None:
        print("atheris is not installed: searching with hypothesis", flush=True)
        by_hypothesis(options.target, options.seconds, options.seed)
    else:
        by_atheris(options.target, options.seconds, options.seed)


def by_atheris(target: str, seconds: int, seed: int) -> None:
    """Search until the time is over; never returns. What breaks is kept in a file of its own."""
    import atheris

    with atheris.instrument_imports(include=["tusasgi", "puremagic"]):
        from .targets import TARGETS
    corpus = tempfile.mkdtemp(prefix="tusasgi-fuzz-")
    for number, start in enumerate(starts(target)):
        Path(corpus, str(number)).write_bytes(start[:LONGEST])
    words = [f"-max_total_time={seconds}", f"-seed={seed}", f"-max_len={LONGEST}"]
    words += [f"-artifact_prefix={corpus}/found-", "-print_final_stats=1", "-verbosity=0"]
    atheris.Setup([sys.argv[0], *words, corpus], TARGETS[target])
    atheris.Fuzz()


def by_hypothesis(target: str, seconds: int, seed: int) -> None:
    """Search until the time is over; raise what was found."""
    import hypothesis
    from hypothesis import strategies as st

    from .targets import TARGETS

    data = st.binary(max_size=400) | st.builds(
        lambda start, more: start[: more % (len(start) + 1)] + start[more % 97 :],
        st.sampled_from(starts(target)),
        st.integers(0, LONGEST),
    )
    end, rounds = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        search = hypothesis.given(data)(lambda data: TARGETS[target](data))
        often = hypothesis.settings(max_examples=500, deadline=None, database=None)
        hypothesis.seed(seed + rounds)(often(search))()
        rounds += 1
    print(f"{rounds * 500} inputs, nothing found")


def starts(target: str) -> list[bytes]:
    """What a search sets out from."""
    from tests.media.samples import HAND_MADE

    from .hostile import BY_HAND

    if target == "head":
        return [*BY_HAND.values(), *(head.data for head in HAND_MADE)]
    if target == "texts":
        return [
            b"final;/files/a http://example.com/files/b",
            b"filename YQ==,empty",
            b"sha1 Kq5sNclPz7QV2+lfQIuc6R7oRu0=",
            b"bytes=0-9",
            b"/files/a",
            b"//example.com/files/%41/",
            b'sha-256=:YQ==:, a=(1 "b");c, d=?0',
            b"inline; filename=\"a.txt\"; filename*=UTF-8''%e2%82%ac.txt",
        ]
    if target == "draft":
        return [
            b"\x088\n\x07?1\n\x0310\n\x04video/mp4\n\x01inline; filename=a",
            b"\x086\n\x07?0\n\x0310\n\x04application/partial-upload\n\x0c5\n\x0a15",
            b"\x083\n\x09?1\n\x06chunked\n\x00sha-256=:YQ==:\n\x0dsha-256=1",
        ]
    return [
        b"\xff\x01application/offset+octet-stream\n\x0b5\n\x0015\n\x06sha1 "
        b"Kq5sNclPz7QV2+lfQIuc6R7oRu0=",
        b"\xff\x09100\n\x0afilename YQ==,b\n\x051.0.0",
        b"\xff\x081\n\x07partial\n\x04chunked",
        b"\xff\x07final;/files/a /files/b\n\x0cPATCH\n\x02100-continue",
    ]


if __name__ == "__main__":
    main()
