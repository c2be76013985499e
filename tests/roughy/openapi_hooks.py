"""What schemathesis has to know beyond the document; loaded by its command."""

import schemathesis
from hypothesis import strategies as st

_UPLOADED = "application/offset+octet-stream"
# 64 bytes that pass for sound, and 64 that pass for nothing.
_WAVE = b"RIFF\x38\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0\x40\x1f\0\0\x40\x1f\0\0\1\0\x08\0data".ljust(
    64, b"\0"
)
_BODIES = st.sampled_from([_WAVE, _WAVE, _WAVE, _WAVE[:63], bytes(64)]) | st.binary(max_size=100)

schemathesis.openapi.media_type(_UPLOADED, _BODIES)


@schemathesis.serializer(_UPLOADED)
def as_it_stands(ctx, value):
    return value if isinstance(value, bytes) else str(value).encode()


@schemathesis.hook
def filter_case(ctx, case):
    """Leave out the two things that the document cannot say."""
    return not (_has_whole_float(case.body) or _has_unknown_name(case))


def _has_whole_float(body):
    """JSON Schema takes 100.0 for an integer; we do not."""
    return isinstance(body, dict) and any(isinstance(value, float) for value in body.values())


def _has_unknown_name(case):
    """OpenAPI has no word for it: we ignore names in a query that we do not know."""
    known = {parameter.name for parameter in case.operation.query}
    return bool(set(case.query or {}) - known)
