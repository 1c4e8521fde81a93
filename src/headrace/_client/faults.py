"""What a consumer reports beside records, gathered until the next poll hands it over.

Decides nothing: `failures` has the kinds. Invariant: bounded, scrubbed of secrets, and an outage's thousand reports
are a few.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from confluent_kafka import KafkaError

from headrace._client.failures import consume_row, fatal_row, request_row
from headrace._client.logs import RateLimit
from headrace.ports import Fault

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace._client.lookups import Unanswered
    from headrace._client.settings import Scrubber

FAULTS_MAX = 1000
"""Between two polls. A client that reports more says the same things again."""


@final
class Faults:
    """Owner thread only."""

    __slots__ = ("_faults", "_limit", "_scrub", "fatal", "last")

    def __init__(self, clock: Callable[[], float], scrub: Scrubber) -> None:
        self._scrub = scrub
        self._limit = RateLimit(clock)
        self._faults: list[Fault] = []
        self.last: tuple[str, str] | None = None
        """The client's last report, code and text: it says why a request timed out."""
        self.fatal = False
        """Whether the client is dead."""

    def take(self) -> list[Fault]:
        """All since the last call."""
        faults, self._faults = self._faults, []
        return faults

    def report(self, error: KafkaError) -> None:
        """The client's error callback, which repeats itself: one of each code per `logs.QUIET_S`."""
        if self.last is None or error.name() != "_ALL_BROKERS_DOWN":  # which says nothing of why
            self.last = (error.name(), self._scrub(error.str()))
        kept_back = self._limit.admit(error.name())
        if kept_back is not None:
            more = f" ({kept_back} like it since)" if kept_back else ""
            self.note(consume_row(error.name()).kind, error.name(), error.str() + more)

    def message(self, message: Any) -> None:
        """An error among the records."""
        error: KafkaError = message.error()
        if error.name() == "_FATAL":
            self.dead(error)
            return
        offset: int | None = message.offset()
        self.note(
            consume_row(error.name()).kind,
            error.name(),
            error.str(),
            message.topic(),
            message.partition(),
            offset if offset is not None and offset >= 0 else None,
        )

    def dead(self, error: KafkaError) -> None:
        """The client is dead: it says `_FATAL` at every poll, so only the first is told."""
        if not self.fatal:
            self.fatal = True
            cause = _cause(error)
            self.note(fatal_row(cause).kind, cause, error.str())

    def raised(self, error: KafkaError) -> None:
        """An error that came as an exception, as confluent-kafka's own do."""
        if error.fatal():
            self.dead(error)
        else:
            self.note(consume_row(error.name()).kind, error.name(), error.str())

    def unanswered(self, question: Unanswered) -> None:
        """A look-up was refused. One that merely got no answer is no fault: it is asked again."""
        kind = request_row(question.code).kind
        if kind != "retry":
            self.note(kind, question.code, question.detail, question.topic, question.partition)

    def note(
        self,
        kind: str,
        code: str,
        detail: str,
        topic: str | None = None,
        partition: int | None = None,
        offset: int | None = None,
    ) -> None:
        """Add one fault."""
        if kind != "ignore" and len(self._faults) < FAULTS_MAX:
            self._faults.append(Fault(kind, code, self._scrub(detail), topic, partition, offset))


def _cause(error: KafkaError) -> str:
    """What a client died of. confluent-kafka does not show librdkafka's cause but in the text, which begins with it."""
    if error.name() != "_FATAL":
        return error.name()
    text = error.str().removeprefix("Fatal error: ")
    names = (name for name in dir(KafkaError) if name.strip("_").isupper())
    texts = {name: KafkaError(getattr(KafkaError, name)).str() for name in names}
    return max(
        (name for name in texts if text.startswith(texts[name])),
        key=lambda n: len(texts[n]),
        default="_FATAL",
    )
