"""The arguments of the commands besides `serve`."""

import argparse
from typing import Any

from tusasgi import State
from tusasgi.server import values
from tusasgi.server.settings import DEFAULTS
from tusasgi.server.shared_options import add_hooks, add_locker, add_place, add_web_hooks, read_by

WORDS = ("ids", "json", "owner", "state", "limit", "after", "from_tusd", "copy", "move", "dry_run")
"""What is said of one call, and is no setting."""


def add_commands(commands: Any) -> dict[str, argparse.ArgumentParser]:
    """Add the commands for whoever looks after the uploads; return their parsers by name."""

    def add(name: str, help: str) -> argparse.ArgumentParser:
        command: argparse.ArgumentParser = commands.add_parser(name, help=help)
        add_place(command, default="")
        command.add_argument(
            "--json", action="store_true", help="print lines of JSON, an object each"
        )
        return command

    by_name = {
        "list": add("list", "show the uploads that are there"),
        "show": add("show", "show all that is known of some uploads"),
        "remove": add("remove", "remove uploads, finished or not, without asking"),
        "sweep": add("sweep", "remove what has expired"),
        "check": add("check", "try what the store can do, with files that are removed again"),
        "import": add("import", "take over the uploads of tusd"),
    }
    by_name["list"].add_argument("--owner", help="only the uploads of this owner")
    by_name["list"].add_argument(
        "--state", choices=[one.value for one in State], help="only the uploads in this state"
    )
    by_name["list"].add_argument(
        "--limit", type=read_by(values.positive), metavar="N", help="so many at the most"
    )
    by_name["list"].add_argument(
        "--after", metavar="ID", help="only those that come behind this one, the last of a list"
    )
    for name in ("show", "remove"):
        by_name[name].add_argument("ids", nargs="+", metavar="ID", help="of an upload")
    for name in ("remove", "sweep"):
        add_hooks(by_name[name])
        add_web_hooks(by_name[name])
        add_locker(by_name[name])
    _add_import(by_name["import"])
    return by_name


def _add_import(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--from-tusd", metavar="DIR", required=True, help="the folder of tusd (-upload-dir)"
    )
    command.add_argument(
        "--expires-after",
        type=read_by(values.positive),
        metavar="SECONDS",
        help="have unfinished uploads expire so long after their last byte came",
    )
    command.add_argument(
        "--path",
        type=read_by(values.path),
        help="where clients create (-base-path), by which final uploads name their parts "
        f"(default: {DEFAULTS.path})",
    )
    command.add_argument(
        "--copy",
        action="store_true",
        help="copy the bytes, into a folder on another file system; a --store is always copied to",
    )
    command.add_argument(
        "--move", action="store_true", help="remove from tusd's folder what was taken, at the end"
    )
    command.add_argument(
        "--dry-run", action="store_true", help="say what would be taken, and take nothing"
    )
