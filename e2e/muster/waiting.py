"""Waiting for a condition, never for a while."""

import time

# Long enough for a loaded machine with two cores; a condition that holds sooner costs nothing.
PATIENCE_SECONDS = 60
POLL_SECONDS = 0.05


def eventually(predicate, timeout=PATIENCE_SECONDS, what=None):
    """What `predicate` returns, as soon as that is true.

    An `AssertionError` inside it counts as "not yet", so that a predicate may be
    written with plain asserts; the last one is shown when time is up.
    """
    deadline = time.monotonic() + timeout
    while True:
        last_error = None
        try:
            seen = predicate()
        except AssertionError as error:
            seen, last_error = None, error
        if seen:
            return seen
        if time.monotonic() > deadline:
            name = what or getattr(predicate, "__name__", "the condition")
            raise AssertionError(f"{name} did not come true in {timeout} s; last: {seen!r}") from last_error
        time.sleep(POLL_SECONDS)
