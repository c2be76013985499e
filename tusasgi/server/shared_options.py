"""Options that several commands take."""

import argparse
from collections.abc import Callable

from tusasgi.server import values


def add_place(command: argparse.ArgumentParser, *, default: str) -> None:
    place = command.add_mutually_exclusive_group()
    place.add_argument("--dir", help=f"folder of the uploads{default}")
    place.add_argument(
        "--store",
        type=read_by(values.store),
        metavar="URL",
        help="instead of a folder: s3://bucket/prefix (the AWS_* variables say who and where), or "
        "what fsspec reaches, as gs://, az:// and sftp://",
    )


def add_hooks(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--hooks",
        type=read_by(values.reference),
        metavar="MODULE:OBJECT",
        help="an object derived from tusasgi.Hooks, found from the current folder on",
    )


def add_locker(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--locker",
        type=read_by(values.locker),
        metavar="LOCKER",
        help="what keeps two requests from one upload: memory, file, file:/path, or a URL as "
        "redis://host:6379/0 (default: file for a folder, else memory)",
    )


def read_by(read: Callable[[str], object]) -> Callable[[str], object]:
    """Have argparse say what is wrong with a word in our words."""

    def value(text: str) -> object:
        try:
            return read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return value
