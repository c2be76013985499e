"""The address of a PostgreSQL, as providers write it, for the driver that we use."""

from sqlalchemy.engine import URL

# What the driver takes as text; anything else would end in a traceback.
_DATABASE_OPTIONS = {
    "gsslib",
    "host",
    "krbsrvname",
    "passfile",
    "password",
    "port",
    "prepared_statement_cache_size",
    "service",
    "servicefile",
    "ssl",
    "sslmode",
    "target_session_attrs",
    "user",
}
_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")


def for_asyncpg(url: URL) -> URL:
    """Check the options, and call `sslmode`, as PostgreSQL's own programs do, `ssl`."""
    if not url.query.keys() <= _DATABASE_OPTIONS:
        raise ValueError(f"may have after its ? only {', '.join(sorted(_DATABASE_OPTIONS))}")
    mode = url.query.get("sslmode")
    if mode is None:
        return url
    if mode not in _SSL_MODES:
        raise ValueError(f"may have as sslmode only {', '.join(_SSL_MODES)}")
    return url.difference_update_query(["sslmode"]).update_query_dict({"ssl": mode})
