"""What went wrong, in lines for whoever runs the command."""

from collections.abc import Iterator

from tusasgi import TusError


def describe(failure: BaseException) -> str:
    """Say in a line what is behind a failure."""
    cause = _cause(failure)
    text = " ".join(str(cause).split())
    if isinstance(cause, TimeoutError) and not text:
        text = "no answer in time; for object storage, AWS_ENDPOINT_URL says who is asked"
    name = type(cause).__name__
    return f"{name}: {text}" if text else name


def describe_each(failures: BaseException) -> list[str]:
    """Say in a line each what went wrong, however many uploads met with the same."""
    notes: dict[str, dict[str, None]] = {}
    for cause, noted in _causes(failures):
        notes.setdefault(describe(cause), {}).update(dict.fromkeys(noted))
    return [
        f"{cause} ({_first(list(noted))})" if noted else cause for cause, noted in notes.items()
    ]


def _causes(failure: BaseException) -> Iterator[tuple[BaseException, list[str]]]:
    """Yield what is behind failures, each with the notes that were added to it."""
    noted = getattr(failure, "__notes__", [])
    cause = _cause(failure)
    if not isinstance(cause, BaseExceptionGroup):
        yield cause, noted
        return
    for inner in cause.exceptions:
        for found, more in _causes(inner):
            yield found, noted + more


def _cause(failure: BaseException) -> BaseException:
    """Return what is behind a failure that clients see in milder words."""
    return (failure.__cause__ if isinstance(failure, TusError) else None) or failure


def _first(notes: list[str]) -> str:
    return notes[0] if len(notes) == 1 else f"{notes[0]} and {len(notes) - 1} more"
