"""Benchmarks, run by hand: `python -m benchmarks peers`, `s3`, `slow` or `folders`.

Nothing here is asserted anywhere: compare ratios within one run.
"""

import argparse
import importlib.util
import tempfile
from collections.abc import Sequence
from functools import partial

from benchmarks import folders, slow
from benchmarks._client import MIB
from benchmarks._server import ASGI
from benchmarks.contenders import PEERS, Contender
from benchmarks.peers import Comparison


def main(arguments: Sequence[str] | None = None) -> None:
    options = parser().parse_args(arguments)
    options.run(options)


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    _add_peers(commands.add_parser("peers", help="beside an app that only writes, and others"))
    command = commands.add_parser("slow", help="memory of many slow PATCHes at once")
    command.add_argument("--server", action="append", choices=ASGI)
    command.add_argument("--clients", type=int, default=1000)
    command.add_argument("--seconds", type=float, default=15)
    command.add_argument("--dir")
    command.set_defaults(run=_slow)
    command = commands.add_parser("folders", help="layouts of a folder with a million files")
    command.add_argument("--files", type=int, default=1_000_000)
    command.add_argument("--dir")
    command.set_defaults(run=_folders)
    command = commands.add_parser("s3", help="S3Store beside an app that passes bytes on to S3")
    command.add_argument("--rounds", type=int, default=5)
    command.add_argument("--scale", type=float, default=1.0, help="1 means 1 GiB")
    command.add_argument("--far", action="store_true", help="a bucket that is far away")
    command.add_argument("--long", type=float, metavar="GIB", help="one upload of so many GiB")
    command.add_argument("--chunk", type=float, default=8, metavar="MIB", help="with --long")
    command.add_argument("--dir")
    command.set_defaults(run=_s3)
    return parser


def _add_peers(command: argparse.ArgumentParser) -> None:
    command.add_argument("--server", action="append", choices=ASGI)
    command.add_argument("--rounds", type=int, default=5)
    command.add_argument(
        "--scale", type=float, default=1.0, help="1 means 1 GiB, a second, 1,000 slow"
    )
    command.add_argument(
        "--quick",
        action="store_const",
        dest="scale",
        const=0.2,
        help="for a first look: --scale 0.2",
    )
    command.add_argument(
        "--dir",
        action="append",
        help="where the files go, in turn (default: the temporary folder and /dev/shm)",
    )
    for option, (what, _) in PEERS.items():
        command.add_argument(f"--{option}", metavar="PATH", help=what)
    command.set_defaults(run=_peers)


def _peers(options: argparse.Namespace) -> None:
    comparison = Comparison(
        kinds=_servers(options),
        peers=_found_peers(options),
        rounds=options.rounds,
        scale=options.scale,
        show=partial(print, flush=True),
    )
    comparison.run(options.dir or [tempfile.gettempdir(), "/dev/shm"])


def _servers(options: argparse.Namespace) -> list[str]:
    """Return those that were named, or all that are installed; say which are not."""
    if options.server:
        return list(options.server)
    missing = [kind for kind in ASGI if importlib.util.find_spec(kind) is None]
    for kind in missing:
        print(f"Without {kind}: it is not installed.")
    return [kind for kind in ASGI if kind not in missing]


def _found_peers(options: argparse.Namespace) -> list[Contender]:
    """Return the peers whose place was named; say which are left out."""
    found = []
    for option, (_, contender) in PEERS.items():
        place = getattr(options, option.replace("-", "_"))
        if place is None:
            print(f"Without {option}: --{option} says where it is.")
        else:
            found.append(contender(place))
    return found


def _s3(options: argparse.Namespace) -> None:
    from benchmarks import s3  # needs the extra, and SeaweedFS

    if options.long is not None:
        s3.long(options.long, int(options.chunk * MIB), options.dir)
    elif options.far:
        s3.far(options.rounds, options.scale)
    else:
        s3.alternate(options.rounds, options.scale, options.dir)
        s3.compare(options.rounds, options.scale, options.dir)


def _slow(options: argparse.Namespace) -> None:
    for server in _servers(options):
        print(server, slow.measure(server, options.clients, options.seconds, options.dir))


def _folders(options: argparse.Namespace) -> None:
    folders.compare(options.files, options.dir)


if __name__ == "__main__":
    main()
