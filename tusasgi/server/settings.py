"""What can be set about the command: one frozen value, with the defaults."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Literal, Self

from tusasgi.server.values import Address, without_password

if TYPE_CHECKING:
    from tusasgi.stores.file import Durability
    from tusasgi.stores.s3 import Integrity

FOR_WORKERS = "TUSASGI_SERVE"
"""The environment variable by which workers, which are processes of their own, get theirs."""

_SAVE_SECONDS = 5  # for what stopped uploads still write; answering their clients takes up to 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """Each is named after its option; `docs/serve.md` says what they are for."""

    dir: str | None = None
    store: str | None = None
    server: Literal["uvicorn", "granian"] = "uvicorn"
    host: str = "127.0.0.1"
    port: int = 1080
    path: str = "/files/"
    protocol: Literal["both", "tus", "ietf"] = "both"
    max_size: int | None = None
    max_append_size: int | None = None
    expires_after: int | None = None
    workers: int = 1
    cors_origin: Sequence[str] = ()
    public_url: str | None = None
    durability: "Durability" = "complete"
    hooks: str | None = None
    log_requests: bool = False
    log_format: Literal["text", "json"] = "text"
    shutdown_timeout: int = 5
    header_timeout: int = 60
    keep_alive: int = 75
    monitor: Address | None = None
    interim_responses: bool = False

    locker: str | None = None

    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None
    unix_socket: str | None = None
    http2: bool = False
    forwarded_allow_ips: Sequence[str] = ()
    location: Literal["absolute", "path"] = "absolute"

    api_key_file: str | None = None
    jwt_key: str | None = field(default=None, repr=False)
    jwt_key_file: str | None = None
    jwt_jwks_file: str | None = None
    jwt_audience: str | None = None
    jwt_issuer: str | None = None
    jwt_owner_claim: str = "sub"

    cors_credentials: bool = False
    cors_header: Sequence[str] = ()

    downloads: bool = True
    termination: bool = True
    concatenation: bool = True
    creation: bool = True

    page: bool = False

    hook: str | None = None
    hook_secret_file: str | None = None
    hook_format: Literal["standard", "tusd"] = "standard"
    hook_events: Sequence[str] = ()
    hook_timeout: int = 10
    hook_forward_headers: Sequence[str] = ()

    check_bucket: bool = True
    """No option: off from when the bucket was found to do what it has to."""
    integrity: 'Integrity | Literal["auto"]' = "auto"
    """No option: what the bucket was found to compare with the bytes that it gets."""

    @property
    def place(self) -> str:
        """Where the uploads are: the URL of a store, or the path of a folder."""
        return self.store or os.path.abspath(self.dir or "data")

    @property
    def shown_place(self) -> str:
        """The same, as everybody may see it."""
        return without_password(self.place)

    @property
    def protocols(self) -> tuple[str, ...]:
        return ("tus", "ietf") if self.protocol == "both" else (self.protocol,)

    @property
    def has_details_of_hook(self) -> bool:
        return bool(self.hook_secret_file or self.hook_events or self.hook_forward_headers)

    @property
    def scheme(self) -> str:
        return "http" if self.ssl_certfile is None else "https"

    @property
    def takes_tokens(self) -> bool:
        return any((self.jwt_key, self.jwt_key_file, self.jwt_jwks_file))

    @property
    def switched_off(self) -> list[str]:
        """The extensions of TUS that are not to be offered."""
        names = ("termination", "concatenation", "creation")
        return [name for name in names if not getattr(self, name)]

    @property
    def stop_timeout(self) -> int:
        """After so many seconds a server that is told to stop is gone in any case."""
        return self.shutdown_timeout + _SAVE_SECONDS

    @property
    def is_in_folder(self) -> bool:
        return self.store is None

    @property
    def is_in_bucket(self) -> bool:
        """True for S3, which has a store of its own; what else is no folder is for fsspec."""
        return self.store is not None and self.store.startswith("s3://")

    def dump(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def load(cls, text: str) -> Self:
        """Return the settings that were dumped."""
        settings = json.loads(text)
        if settings["monitor"] is not None:
            settings["monitor"] = Address(*settings["monitor"])
        return cls(**settings)


DEFAULTS = Settings()

SECRETS = ("jwt_key",)
"""What is never shown."""
