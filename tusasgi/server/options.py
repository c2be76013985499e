"""The arguments of the command: what is given there, as settings."""

import argparse
from collections.abc import Callable, Sequence
from typing import Any, Literal, NoReturn

from tusasgi import __version__
from tusasgi.server import values
from tusasgi.server.settings import DEFAULTS, Settings

Command = Literal["serve", "sweep"]


def read_arguments(arguments: Sequence[str] | None = None) -> tuple[Command, Settings]:
    """Return what is to be done, and how; wrong arguments end the process with code 2."""
    parser = _parser()
    given = vars(parser.parse_args(arguments))
    command: Command = given.pop("command")
    settings = Settings(**given)
    if settings.interim_responses and settings.server == "granian":
        parser.error("--interim-responses needs --server uvicorn: granian cannot send them")
    return command, settings


class _Parser(argparse.ArgumentParser):
    """Leaves out what is not given, and says in one line what is wrong."""

    def __init__(self, **others: Any) -> None:
        super().__init__(argument_default=argparse.SUPPRESS, **others)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="tusasgi", description="Resumable uploads by TUS 1.0.0 and the IETF draft"
    )
    parser.add_argument("--version", action="version", version=f"tusasgi {__version__}")
    commands = parser.add_subparsers(
        title="commands", dest="command", metavar="COMMAND", required=True
    )
    _add_serve(commands.add_parser("serve", help="receive uploads into a folder or a bucket"))
    _add_place(commands.add_parser("sweep", help="remove what has expired"), is_required=True)
    return parser


def _add_serve(serve: argparse.ArgumentParser) -> None:
    def add(option: str, help: str, **how: Any) -> None:
        default = getattr(DEFAULTS, option.removeprefix("--").replace("-", "_"))
        serve.add_argument(option, help=f"{help} (default: {default})" if default else help, **how)

    positive = _as(values.positive)
    _add_place(serve, is_required=False)
    add("--server", "what speaks HTTP; each is an extra of its own",
        choices=("uvicorn", "granian"))  # fmt: skip
    add("--host", "address to listen on")
    add("--port", "0 takes a free one", type=_as(values.port))
    add("--path", "where clients create", type=_as(values.path))
    add("--protocol", "TUS 1.0.0, the IETF draft, or both of them",
        choices=("both", "tus", "ietf"))  # fmt: skip
    add("--max-size", "of one upload, as 5000000 or 10GiB",
        type=_as(values.size), metavar="SIZE")  # fmt: skip
    add("--max-append-size", "of one request; clients of the IETF draft keep to it",
        type=_as(values.size), metavar="SIZE")  # fmt: skip
    add("--expires-after", "remove an unfinished upload so long after its last byte came",
        type=positive, metavar="SECONDS")  # fmt: skip
    add("--workers", "processes", type=positive)
    add("--cors-origin", "web origin whose pages may upload, or *; may be given more than once",
        type=_as(values.origin), metavar="ORIGIN", action="append")  # fmt: skip
    add("--public-url", "of --path, as clients see it; without it `Location` is a path",
        type=_as(values.url), metavar="URL")  # fmt: skip
    add("--durability", "flush complete uploads to disk, or each append, or nothing",
        choices=("complete", "append", "none"))  # fmt: skip
    add("--log-requests", "write a line to stderr for each upload request and its outcome",
        action="store_true")  # fmt: skip
    add("--shutdown-timeout", "how long running uploads may go on when stopping",
        type=positive, metavar="SECONDS")  # fmt: skip
    add("--header-timeout", "how long the head of a request may take",
        type=positive, metavar="SECONDS")  # fmt: skip
    add("--keep-alive", "how long an idle connection is kept open",
        type=positive, metavar="SECONDS")  # fmt: skip
    add("--monitor", "answer /metrics and /health there, on 127.0.0.1 if no host is given",
        type=_as(values.address), metavar="[HOST:]PORT")  # fmt: skip
    add("--interim-responses", "send 104s, by which clients of the IETF draft can resume; "
        "behind proxies that pass them on", action="store_true")  # fmt: skip


def _add_place(command: argparse.ArgumentParser, *, is_required: bool) -> None:
    place = command.add_mutually_exclusive_group(required=is_required)
    place.add_argument(
        "--dir", help="folder of the uploads" + ("" if is_required else " (default: ./data)")
    )
    place.add_argument(
        "--store",
        type=_as(values.bucket),
        metavar="URL",
        help="s3://bucket/prefix instead of a folder; the AWS_* variables say who and where",
    )


def _as(read: Callable[[str], object]) -> Callable[[str], object]:
    """Have argparse say what is wrong with a word in our words."""

    def value(text: str) -> object:
        try:
            return read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return value
