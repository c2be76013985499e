"""Options that several commands take."""

import argparse
from collections.abc import Callable

from tusasgi.server import values
from tusasgi.server.settings import DEFAULTS


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


def add_web_hooks(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("--hook", metavar="URL", type=read_by(values.receiver),
        help="ask and tell a receiver there by HTTP what becomes of uploads")  # fmt: skip
    add("--hook-secret-file", metavar="FILE", help="with the whsec_… that messages are signed with")
    add("--hook-format", choices=("standard", "tusd"),
        help="of messages: Standard Webhooks or what tusd sends (default: standard)")  # fmt: skip
    add("--hook-events", metavar="EVENT", action="append",
        help="what it is asked and told; may be given more than once")  # fmt: skip
    add("--hook-timeout", metavar="SECONDS", type=read_by(values.positive),
        help=f"how long it may take to answer (default: {DEFAULTS.hook_timeout})")  # fmt: skip
    add("--hook-forward-headers", metavar="NAME", action="append", type=read_by(values.header),
        help="header of clients to pass on to it, as Authorization or Cookie; "
        "may be given more than once")  # fmt: skip


def read_by(read: Callable[[str], object]) -> Callable[[str], object]:
    """Have argparse say what is wrong with a word in our words."""

    def value(text: str) -> object:
        try:
            return read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return value
