"""`python -m examples.roughy`: serve, and add keys and credits."""

import argparse
import os
import sys
from functools import partial
from pathlib import Path

from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from examples.roughy.server.commands import (
    CommandError,
    add_a_key,
    add_credits,
    revoke_a_key,
    run_command,
)
from examples.roughy.server.serving import CannotListen, serve
from examples.roughy.settings import Settings, SettingsError
from examples.roughy.storage.schema import SchemaMismatch

_TOLD = (
    SettingsError,
    CommandError,
    CannotListen,
    SchemaMismatch,
    OSError,
    SQLAlchemyError,
    ImportError,  # of what a setting asks for
)


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        settings = Settings.of(options.data, os.environ)
        settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        options.run(settings, options)
    except _TOLD as error:
        print(f"roughy: {_one_line(error)}", file=sys.stderr)
        return 2
    return 0


def _one_line(error: Exception) -> str:
    # SQLAlchemy adds the statement, its values and a link.
    cause = error.orig if isinstance(error, DBAPIError) else error
    return str(cause).partition("\n")[0]


def _parser() -> argparse.ArgumentParser:
    data = argparse.ArgumentParser(add_help=False)
    data.add_argument("--data", type=Path, default=argparse.SUPPRESS, metavar="DIR")
    parser = argparse.ArgumentParser(
        prog="python -m examples.roughy", description="Run Roughy, or one of its commands."
    )
    parser.set_defaults(run=serve, data=Path(os.environ.get("ROUGHY_DATA", "roughy-data")))
    _add_serve_options(parser)
    parser.add_argument("--data", type=Path, metavar="DIR", help="default: roughy-data")
    commands = parser.add_subparsers(title="commands", metavar="serve | key | credits")
    _add_serve_options(commands.add_parser("serve", parents=[data], help="what it does anyway"))
    keys = commands.add_parser("key", help="add or revoke API keys").add_subparsers(required=True)
    adding = keys.add_parser("add", parents=[data], help="add a key and print it")
    adding.add_argument("--account", metavar="ID", help="default: an account of its own")
    adding.set_defaults(run=partial(run_command, add_a_key))
    revoking = keys.add_parser("revoke", parents=[data], help="let a key open nothing any more")
    revoking.add_argument("key")
    revoking.set_defaults(run=partial(run_command, revoke_a_key))
    credits = commands.add_parser("credits", help="add credits").add_subparsers(required=True)
    topping = credits.add_parser("add", parents=[data], help="add credits to an account")
    topping.add_argument("amount", type=int)
    whose = topping.add_mutually_exclusive_group()
    whose.add_argument("--account", metavar="ID", help="default: the only one there is")
    whose.add_argument("--key", help="a key of the account")
    topping.set_defaults(run=partial(run_command, add_credits))
    return parser


def _add_serve_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", default="127.0.0.1", help="default: 127.0.0.1")
    parser.add_argument("--port", type=_port, default=8000, help="default: 8000")


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"a port is a number up to 65535, not {text!r}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
