"""Three Roughys behind a balancer, with SeaweedFS and PostgreSQL: `scripts/replicas`.

Nothing is in the memory or the folder of one replica that another one needs: kill one in the
middle of an upload and see.
"""

import argparse
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from examples.roughy.keys import new_key
from examples.roughy.storage.private import read_or_make

from . import services
from .processes import Failed, Program, free_port

_LOOK_SECONDS = 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class Deployment:
    """What runs."""

    url: str
    key: str
    balancer: Program
    replicas: list[Program]


@contextmanager
def deployed(data: Path, *, port: int, balancer: str, count: int = 3) -> Iterator[Deployment]:
    """Start everything, and end it with the block, in the opposite order.

    Uploads and rows stay in the folder `data` for the next time.
    """
    data = data.absolute()
    data.mkdir(parents=True, exist_ok=True)
    key = read_or_make(data / "api-key", new_key)
    with ExitStack() as stack:
        database = stack.enter_context(services.postgres(data / "postgres"))
        secret = read_or_make(data / "s3-secret", new_key)
        storage = stack.enter_context(services.seaweedfs(data / "seaweedfs", secret))
        environ = {
            **storage,
            "ROUGHY_DATABASE_URL": database,
            "ROUGHY_API_KEYS": key,
            "ROUGHY_PUBLIC_URL": f"http://127.0.0.1:{port}",
        }
        ports = [free_port() for _ in range(count)]
        replicas = [
            services.replica(number, port, data, environ) for number, port in enumerate(ports, 1)
        ]
        for replica in replicas:
            stack.callback(replica.stop)
            replica.start()
        for replica in replicas:
            replica.wait_until_up()
        proxy = stack.enter_context(services.balancer(balancer, data / balancer, port, ports))
        yield Deployment(url=f"http://127.0.0.1:{port}", key=key, balancer=proxy, replicas=replicas)


def main() -> int:
    arguments = _arguments()
    # Ended from outside, it still ends what it started.
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, lambda number, frame: sys.exit(128 + number))
    balancer = arguments.balancer or services.first_balancer()
    missing = services.what_is_missing(balancer)
    try:
        if missing is not None:
            raise Failed(missing)
        assert balancer is not None
        with deployed(arguments.data, port=arguments.port, balancer=balancer) as deployment:
            _show(deployment, arguments.data)
            _look_after(deployment)
    except (Failed, OSError) as error:
        print(f"replicas: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped.")
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/replicas", description="Run three Roughys behind a balancer."
    )
    parser.add_argument("--port", type=int, default=8000, help="of the balancer; default: 8000")
    parser.add_argument("--data", type=Path, default=Path("roughy-data/replicas"), metavar="DIR")
    parser.add_argument(
        "--balancer", choices=["haproxy", "nginx"], help="default: the one that is installed"
    )
    return parser.parse_args()


def _show(deployment: Deployment, data: Path) -> None:
    for replica in deployment.replicas:
        _tell(replica.name.capitalize(), f"process {replica.pid}, log in {replica.log}")
    _tell("Balancer", f"{deployment.balancer.name}, process {deployment.balancer.pid}")
    _tell("API key", f"{deployment.key}  (kept in {data / 'api-key'})")
    _tell("URL", f"{deployment.url}/#key={deployment.key}")
    _tell("", "Kill a replica during an upload, it comes back. Ctrl-C ends everything.")


def _look_after(deployment: Deployment) -> None:
    """Start replicas again that end; raise `Failed` when the balancer does."""
    while deployment.balancer.exit_code is None:
        for replica in deployment.replicas:
            if replica.exit_code is not None:
                _tell(replica.name.capitalize(), f"ended with {replica.exit_code}")
                replica.start()
                _tell(replica.name.capitalize(), f"process {replica.pid}")
        time.sleep(_LOOK_SECONDS)
    raise Failed(f"{deployment.balancer.name} ended:\n{deployment.balancer.output()[-2000:]}")


def _tell(what: str, text: str) -> None:
    print(f"{what:<10} {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
