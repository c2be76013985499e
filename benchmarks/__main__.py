"""Benchmarks, run by hand: `python -m benchmarks floor`, `s3`, `slow` or `folders`.

Nothing here is asserted anywhere: compare ratios within one run.
"""

import argparse
import json

from benchmarks import floor, folders, slow


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("floor", help="TusApp beside an app that only writes")
    command.add_argument("--server", action="append", choices=["uvicorn", "granian", "hypercorn"])
    command.add_argument("--rounds", type=int, default=5)
    command.add_argument("--scale", type=float, default=1.0, help="1 means 1 GiB")
    command.add_argument("--dir", help="where the files go (default: the temporary folder)")
    command.add_argument("--json", default="floor.json", help="where the numbers go")
    command = commands.add_parser("slow", help="memory of many slow PATCHes at once")
    command.add_argument("--server", action="append", choices=["uvicorn", "granian", "hypercorn"])
    command.add_argument("--clients", type=int, default=1000)
    command.add_argument("--seconds", type=float, default=15)
    command.add_argument("--dir")
    command = commands.add_parser("folders", help="layouts of a folder with a million files")
    command.add_argument("--files", type=int, default=1_000_000)
    command.add_argument("--dir")
    command = commands.add_parser("s3", help="S3Store beside an app that passes bytes on to S3")
    command.add_argument("--rounds", type=int, default=5)
    command.add_argument("--scale", type=float, default=1.0, help="1 means 1 GiB")
    command.add_argument("--far", action="store_true", help="a bucket that is far away")
    command.add_argument("--long", type=float, metavar="GIB", help="one upload of so many GiB")
    command.add_argument("--chunk", type=float, default=8, metavar="MIB", help="with --long")
    command.add_argument("--dir")
    options = parser.parse_args()
    commands_by_name = {"floor": _floor, "s3": _s3, "slow": _slow, "folders": _folders}
    commands_by_name[options.command](options)


def _floor(options: argparse.Namespace) -> None:
    report: dict[str, object] = {"machine": floor.machine()}
    for server in options.server or ["uvicorn", "granian"]:
        results = floor.measure(server, options.rounds, options.scale, options.dir)
        report[server] = floor.as_json(results)
        print(f"{floor.table(server, results)}\n", flush=True)
    with open(options.json, "w") as file:
        json.dump(report, file, indent=1)


def _s3(options: argparse.Namespace) -> None:
    from benchmarks import s3  # needs the extra, and SeaweedFS

    if options.long is not None:
        s3.long(options.long, int(options.chunk * s3.MIB), options.dir)
    elif options.far:
        s3.far(options.rounds, options.scale, options.dir)
    else:
        s3.alternate(options.rounds, options.scale, options.dir)
        s3.compare(options.rounds, options.scale, options.dir)


def _slow(options: argparse.Namespace) -> None:
    for server in options.server or ["uvicorn", "granian"]:
        print(server, slow.measure(server, options.clients, options.seconds, options.dir))


def _folders(options: argparse.Namespace) -> None:
    folders.compare(options.files, options.dir)


if __name__ == "__main__":
    main()
