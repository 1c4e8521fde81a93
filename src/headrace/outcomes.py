"""What a handler may raise to steer its record, apart from simply failing.

Both are values for the engine: they carry no behaviour. Any other `Exception` is a failure and follows the
subscription's `RetryPolicy`.
"""

from __future__ import annotations

from typing import final


@final
class RetryLater(Exception):
    """Ask for this record again after `after_s` seconds, without counting an attempt unless told to.

    Its key waits; other keys go on. With `count_attempt=True` the try counts towards `RetryPolicy.attempts_max`.
    """

    def __init__(self, after_s: float, *, count_attempt: bool = False) -> None:
        # Users who run no type checker are told in the words of the setting, not of Python.
        if not isinstance(after_s, int | float) or not 0 <= after_s <= 86_400:
            msg = f"RetryLater(after_s={after_s!r}): expected 0 to 86400 seconds"
            raise ValueError(msg)
        self.after_s = after_s
        self.count_attempt = count_attempt
        super().__init__(after_s)

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions cross a pipe from worker processes; the default reduce loses keyword-only arguments.
        return (_retry_later, (self.after_s, self.count_attempt))


@final
class Reject(Exception):
    """Give this record up at once: no retry, straight to `on_exhausted` (dead letter, stop or skip)."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


def _retry_later(after_s: float, count_attempt: bool) -> RetryLater:  # noqa: FBT001 - pickle passes positionally
    return RetryLater(after_s, count_attempt=count_attempt)
