"""The arguments of the command: what is given there, as settings."""

import argparse
import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, NoReturn

from tusasgi import __version__
from tusasgi.server import values
from tusasgi.server.commands.options import WORDS, add_commands
from tusasgi.server.lockers import wrong_locker
from tusasgi.server.settings import DEFAULTS, SECRETS, Settings
from tusasgi.server.shared_options import (
    add_hooks,
    add_locker,
    add_place,
    add_web_hooks,
)
from tusasgi.server.shared_options import read_by as _as
from tusasgi.server.sources import (
    Options,
    WrongSetting,
    layers_of,
    merged,
    sources_of,
    to_toml,
)

Command = Literal["serve", "list", "show", "remove", "sweep", "check", "import"]


class Call(NamedTuple):
    """What is to be done, and how."""

    command: Command
    settings: Settings
    words: Mapping[str, Any]
    """What is said of this one call, as the ids of uploads, and is no setting."""


def read_arguments(
    arguments: Sequence[str] | None = None, environment: Mapping[str, str] = os.environ
) -> Call:
    """Return what is to be done, and how; what is wrong ends the process with code 2.

    An option counts more than a variable of the environment, and that more than a file.
    """
    parser, commands = _parser()
    given = vars(parser.parse_args(arguments))
    command: Command = given.pop("command")
    options = {name: _options_of(one) for name, one in commands.items()}
    try:
        layers = layers_of(given, options[command], options["serve"], environment)
    except WrongSetting as wrong:
        parser.error(str(wrong))
    settings = Settings(**merged(layers))
    if "print_config" in given:
        print(to_toml(_shown(settings, options[command]), sources_of(layers), SECRETS), end="")
        parser.exit()
    if wrong_together := _wrong_together(command, settings):
        parser.error(wrong_together)
    words = {name: given[name] for name in given if name not in options[command]}
    return Call(command, settings, words)


def _wrong_together(command: Command, settings: Settings) -> str | None:
    """Say what is wrong about settings each of which is right."""
    if command != "serve" and settings.dir is None and settings.store is None:
        return "one of the arguments --dir --store is required"
    return _contradiction(settings) or wrong_locker(settings)


def _contradiction(settings: Settings) -> str | None:
    """Say which settings do not go together, if any."""
    on_granian, has_tls = settings.server == "granian", settings.ssl_certfile is not None
    rules = {
        "--interim-responses needs --server uvicorn: granian cannot send them": (
            settings.interim_responses and on_granian
        ),
        "--http2 needs --server granian: uvicorn has none": settings.http2 and not on_granian,
        "--http2 needs --ssl-certfile: browsers speak it over TLS alone": (
            settings.http2 and not has_tls
        ),
        "--page needs another --path than /, where it is itself": (
            settings.page and settings.path == "/"
        ),
        "--page uploads by TUS: it needs --protocol tus or both, and creation": (
            settings.page and ("tus" not in settings.protocols or not settings.creation)
        ),
        "--hook and --hooks exclude each other: the module can make a WebHooks of its own": (
            settings.hook is not None and settings.hooks is not None
        ),
        "--hook-secret-file, --hook-events and --hook-forward-headers need --hook": (
            settings.hook is None and settings.has_details_of_hook
        ),
        "--ssl-certfile and --ssl-keyfile belong together": (
            has_tls is not (settings.ssl_keyfile is not None)
        ),
        "--cors-credentials needs the origins that are meant: no browser takes * along with it": (
            settings.cors_credentials and "*" in settings.cors_origin
        ),
        "--cors-credentials and --cors-header need --cors-origin": (
            (settings.cors_credentials or settings.cors_header) and not settings.cors_origin
        ),
        "--jwt-key and --jwt-key-file exclude each other": (
            settings.jwt_key and settings.jwt_key_file
        ),
        "--jwt-audience and --jwt-issuer need --jwt-key, --jwt-key-file or --jwt-jwks-file": (
            (settings.jwt_audience or settings.jwt_issuer) and not settings.takes_tokens
        ),
    }
    return next((reason for reason, is_so in rules.items() if is_so), None)


_NO_SETTINGS = ("help", "config", "print_config", *WORDS)


def _options_of(command: argparse.ArgumentParser) -> Options:
    return {one.dest: one for one in command._actions if one.dest not in _NO_SETTINGS}


def _shown(settings: Settings, options: Options) -> dict[str, Any]:
    shown = {name: getattr(settings, name) for name in options}
    if settings.monitor is not None and "monitor" in shown:
        shown["monitor"] = values.written(settings.monitor)
    for name in ("store", "locker"):
        if shown.get(name) is not None:
            shown[name] = values.without_password(shown[name])
    return shown


class _Parser(argparse.ArgumentParser):
    """Leaves out what is not given, and says in one line what is wrong."""

    def __init__(self, **others: Any) -> None:
        super().__init__(argument_default=argparse.SUPPRESS, **others)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


def _parser() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """Return the parser, and those of its commands."""
    parser = _Parser(
        prog="tusasgi", description="Resumable uploads by TUS 1.0.0 and the IETF draft"
    )
    parser.add_argument("--version", action="version", version=f"tusasgi {__version__}")
    commands = parser.add_subparsers(
        title="commands", dest="command", metavar="COMMAND", required=True
    )
    serve = commands.add_parser("serve", help="receive uploads into a folder or a bucket")
    _add_serve(serve)
    _add_listening(serve)
    _add_access(serve)
    add_web_hooks(serve)
    _add_switches(serve)
    by_name = {"serve": serve, **add_commands(commands)}
    for command in by_name.values():
        command.epilog = (
            "Each option can also be set by the environment (TUSASGI_MAX_SIZE for --max-size, or "
            "TUSASGI_MAX_SIZE_FILE with a file that says it) or in the TOML file of --config "
            "(max-size = ...). Options count most, the file least."
        )
        command.add_argument("--config", metavar="FILE", help="a TOML file with settings")
        command.add_argument(
            "--print-config", action="store_true", help="show all settings, as such a file, and end"
        )
    return parser, by_name


def _add_serve(serve: argparse.ArgumentParser) -> None:
    def add(option: str, help: str, **how: Any) -> None:
        default = getattr(DEFAULTS, option.removeprefix("--").replace("-", "_"))
        serve.add_argument(option, help=f"{help} (default: {default})" if default else help, **how)

    positive = _as(values.positive)
    add_place(serve, default=" (default: ./data)")
    add_hooks(serve)
    add_locker(serve)
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
    add("--public-url", "of --path, as clients see it, for `Location`",
        type=_as(values.url), metavar="URL")  # fmt: skip
    add("--durability", "flush complete uploads to disk, or each append, or nothing",
        choices=("complete", "append", "none"))  # fmt: skip
    add("--log-requests", "write a line to stderr for each upload request and its outcome",
        action="store_true")  # fmt: skip
    add("--log-format", "lines of text, or an object a line", choices=("text", "json"))
    add("--shutdown-timeout", "how long running uploads may go on when stopping",
        type=positive, metavar="SECONDS")  # fmt: skip
    add("--header-timeout", "how long the head of a request may take",
        type=positive, metavar="SECONDS")  # fmt: skip
    add("--keep-alive", "how long an idle connection is kept open",
        type=positive, metavar="SECONDS")  # fmt: skip
    add("--monitor", "answer /metrics and /health there, on 127.0.0.1 if no host is given",
        type=_as(values.address), metavar="[HOST:]PORT")  # fmt: skip
    add("--page", "a page at / that uploads from a browser; with --monitor, another one there that "
        "shows what is under way", action="store_true")  # fmt: skip
    add("--interim-responses", "send 104s, by which clients of the IETF draft can resume; "
        "behind proxies that pass them on", action="store_true")  # fmt: skip


def _add_listening(serve: argparse.ArgumentParser) -> None:
    add = serve.add_argument
    add("--ssl-certfile", metavar="FILE", help="speak TLS with this certificate (PEM, whole chain)")
    add("--ssl-keyfile", metavar="FILE", help="the private key of the certificate (PEM)")
    add("--unix-socket", metavar="PATH", help="listen on a unix socket instead of a port")
    add("--http2", action="store_true", help="speak HTTP/2 as well, on granian with TLS")
    add("--forwarded-allow-ips", metavar="WHO", action="append", type=_as(values.proxy),
        help="proxy whose X-Forwarded-Proto, -Host and -For are believed: an address, a network, "
        "`unix` for the socket, or *; may be given more than once")  # fmt: skip
    add("--location", choices=("absolute", "path"),
        help="what `Location` is: a URL of the host that was asked, or a path "
        f"(default: {DEFAULTS.location})")  # fmt: skip


def _add_access(serve: argparse.ArgumentParser) -> None:
    add = serve.add_argument
    add("--api-key-file", metavar="FILE", help="let those in who have a key of it: KEY OWNER lines")
    add("--jwt-key", metavar="KEY", help="let JWTs in that are signed with this secret, or by the "
        "private key of this public one (PEM)")  # fmt: skip
    add("--jwt-key-file", metavar="FILE", help="the same, in a file")
    add("--jwt-jwks-file", metavar="FILE", help="the same by the keys of a JWK Set")
    add("--jwt-audience", metavar="NAME", help="what `aud` of a JWT has to name")
    add("--jwt-issuer", metavar="NAME", help="what `iss` of a JWT has to be")
    add("--jwt-owner-claim", metavar="CLAIM", help="the claim of a JWT that names the owner of an "
        f"upload (default: {DEFAULTS.jwt_owner_claim})")  # fmt: skip
    add("--cors-origin", metavar="ORIGIN", action="append", type=_as(values.origin),
        help="web origin whose pages may upload, as https://example.com or https://*.example.com, "
        "or *; may be given more than once")  # fmt: skip
    add("--cors-credentials", action="store_true", help="let pages send cookies along")
    add("--cors-header", metavar="NAME", action="append", type=_as(values.header),
        help="one more header that pages may send; may be given more than once")  # fmt: skip


def _add_switches(serve: argparse.ArgumentParser) -> None:
    for name, what in (
        ("downloads", "give complete uploads back"),
        ("termination", "let clients remove uploads"),
        ("concatenation", "let clients join uploads"),
        ("creation", "let clients create uploads"),
    ):
        serve.add_argument(
            f"--{name}", action=argparse.BooleanOptionalAction, help=f"{what} (default: yes)"
        )
