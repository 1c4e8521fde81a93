"""Every error a caller of Headrace may meet, one class per thing a caller does differently.

Facts are attributes; the message is built from them and says what to do. Nothing here decides whether
something *is* an error: `_client.failures` classifies Kafka's codes, the engine decides to stop.
Invariant: no attribute or message ever carries a secret.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from collections.abc import Sequence


class HeadraceError(Exception):
    """Base of every error raised by Headrace. Catch it to tell our errors from your own."""


@final
class ConfigError(HeadraceError):
    """A setting is unknown, out of range or contradicts another. Mend the configuration; retrying cannot help."""

    def __init__(self, key: str, value: object, expected: str) -> None:
        self.key = key
        self.value = value
        self.expected = expected
        super().__init__(f"{key} = {value!r}: expected {expected}")


@final
class HandlerError(HeadraceError):
    """A handler cannot be used: not importable, wrong signature, or it disagrees with `batch=` or `run_in=`."""

    def __init__(self, handler: str, problem: str) -> None:
        self.handler = handler
        self.problem = problem
        super().__init__(f"handler {handler}: {problem}")


@final
class AppStateError(HeadraceError):
    """A call that the app's state does not allow, such as `start()` twice. The call changed nothing."""

    def __init__(self, call: str, state: str, advice: str) -> None:
        self.call = call
        self.state = state
        super().__init__(f"{call} while the app is {state}: {advice}")


@final
class WouldDeadlock(HeadraceError):
    """A blocking call was made on the event loop that the handlers need in order to finish. Await the async form."""

    def __init__(self, call: str, instead: str) -> None:
        self.call = call
        super().__init__(f"{call} would block the handlers' own event loop for ever; use {instead}")


@final
class ConcurrentAccess(HeadraceError):
    """A second thread, or event loop, called a guarded consumer, or a lease, while another was inside. Nothing was called.

    The stacks show both. Make the second ask something else: a snapshot, or a connection of its own.
    """

    def __init__(
        self, call: str, caller: str, caller_stack: str, inside_call: str, inside: str, inside_stack: str
    ) -> None:
        self.call = call
        self.caller = caller
        self.caller_stack = caller_stack
        self.inside_call = inside_call
        self.inside = inside
        self.inside_stack = inside_stack
        super().__init__(
            f"{caller} called {call}() while {inside} was in {inside_call}(); give each its own consumer, or let one "
            f"thread make all calls\n{caller}:\n{caller_stack}{inside}:\n{inside_stack}"
        )


@final
class LeaseReleased(HeadraceError):
    """A lease was used after its end: another user may have its consumer by now. Ask the pool for a new lease."""

    def __init__(self, topic: str, partition: int, why: str) -> None:
        self.topic = topic
        self.partition = partition
        self.why = why
        super().__init__(f"the lease of {topic}[{partition}] is over ({why}); ask the pool for a new one")


@final
class PoolExhausted(HeadraceError):
    """No consumer came free in time, and the pool may open no more. End leases sooner, or raise `consumers_hard_max`."""

    def __init__(self, topic: str, partition: int, consumers_hard_max: int, waited_s: float) -> None:
        self.topic = topic
        self.partition = partition
        self.consumers_hard_max = consumers_hard_max
        self.waited_s = waited_s
        super().__init__(
            f"{topic}[{partition}]: all {consumers_hard_max} consumers of the pool were in use for {waited_s:.1f} s; "
            "end leases sooner, or raise consumers_hard_max"
        )


@final
class PoolClosed(HeadraceError):
    """A lease was asked of a pool that is closed. Make a new pool."""

    def __init__(self) -> None:
        super().__init__("the pool is closed; make a new one")


@final
class GroupInvalid(HeadraceError):
    """A group or strategy given to `headrace.assign` makes no sense, such as one member twice. Mend what `subject` names."""

    def __init__(self, subject: str, problem: str) -> None:
        self.subject = subject
        self.problem = problem
        super().__init__(f"{subject}: {problem}")


@final
class OffsetsMissing(HeadraceError):
    """A read asks for offsets that a partition does not have yet, or not any more: it was cut, or its topic made anew."""

    def __init__(self, topic: str, partition: int, offset: int, end: int) -> None:
        self.topic = topic
        self.partition = partition
        self.offset = offset
        self.end = end
        super().__init__(
            f"{topic}[{partition}]: offsets up to {offset} are asked for, and it ends at {end} "
            "(open transactions keep records back); read to 'latest', or later"
        )


@final
class RecordsLost(HeadraceError):
    """Offsets of a range are gone: retention or a deletion was faster than the read, or it starts before the first record.

    `on_data_loss="report"` counts them and goes on.
    """

    def __init__(self, topic: str, partition: int, start: int, end: int) -> None:
        self.topic = topic
        self.partition = partition
        self.start = start
        self.end = end
        super().__init__(
            f"{topic}[{partition}]: offsets {start} to {end} ({end - start}) are gone; "
            "begin at 'earliest', or count what is lost with on_data_loss='report'"
        )


@final
class ReadStalled(HeadraceError):
    """Nothing came for `timeout_s`, although partitions are not at their ends. What was read so far is not all."""

    def __init__(self, unfinished: Sequence[str], timeout_s: float, detail: str) -> None:
        self.unfinished = tuple(unfinished)
        self.timeout_s = timeout_s
        self.detail = detail
        super().__init__(
            f"nothing came for {timeout_s:g} s ({detail}); unfinished: {', '.join(self.unfinished)}; "
            "see whether the brokers are well, or give a longer timeout_s"
        )


@final
class TopicRemade(HeadraceError):
    """A topic was deleted and made anew while it was read: what was read may be of both. Drop it, and read again."""

    def __init__(self, topics: Sequence[str]) -> None:
        self.topics = tuple(topics)
        super().__init__(
            f"made anew while it was read: {', '.join(self.topics)}; what was read may be of both, so drop it and read again"
        )


@final
class ExtraMissing(HeadraceError):
    """What was asked for needs a package that is not installed. Install the extra that the message names."""

    def __init__(self, what: str, extra: str) -> None:
        self.what = what
        self.extra = extra
        super().__init__(f'{what} needs more packages: pip install "headrace[{extra}]"')


@final
class UserDataForeign(HeadraceError):
    """Bytes of a member are not in the format expected of its assignor. Treat it as a member without history, as Kafka does."""

    def __init__(self, expected: str, problem: str) -> None:
        self.expected = expected
        self.problem = problem
        super().__init__(f"not {expected}: {problem}; treat the member as one without history")


class FatalError(HeadraceError):
    """Base of what stops a running app; `app.wait()` raises it. The offsets of finished records were committed where possible."""


@final
class BrokerUnreachable(FatalError):
    """No broker answered in time at start. Check the address and the network, or set `Timeouts(connect_s=None)` to keep trying."""

    def __init__(self, bootstrap_servers: str, waited_s: float, detail: str = "") -> None:
        self.bootstrap_servers = bootstrap_servers
        self.waited_s = waited_s
        self.detail = detail
        tail = f" ({detail})" if detail else ""
        super().__init__(
            f"no broker answered at {bootstrap_servers} within {waited_s:g} s{tail}; "
            "check the address, the network and security.protocol, or set Timeouts(connect_s=None) to keep trying"
        )


@final
class TopicMissing(FatalError):
    """A subscribed or dead-letter topic does not exist. Create it; Headrace never creates topics."""

    def __init__(self, topics: Sequence[str]) -> None:
        self.topics = tuple(topics)
        names = ", ".join(self.topics)
        super().__init__(
            f"topic not found: {names}; create it first (Headrace never creates topics), or correct the name"
        )


@final
class NotAuthorized(FatalError):
    """The broker refuses this principal. Grant the ACL or correct the credentials."""

    def __init__(self, what: str, detail: str) -> None:
        self.what = what
        self.detail = detail
        super().__init__(f"not authorized for {what}: {detail}; grant the ACL or correct the credentials")


@final
class Fenced(FatalError):
    """Another member uses the same `instance_id`, or the group refuses this member for good."""

    def __init__(self, code: str, detail: str) -> None:
        self.code = code
        self.detail = detail
        super().__init__(f"the group refuses this member ({code}): {detail}")


@final
class ClientFailed(FatalError):
    """librdkafka reported a fatal error that rebuilding the connection cannot cure."""

    def __init__(self, code: str, detail: str) -> None:
        self.code = code
        self.detail = detail
        super().__init__(f"the Kafka client failed ({code}): {detail}")


@final
class OffsetUnavailable(FatalError):
    """A partition has no committed offset, or one that no longer exists, and the subscription says to stop then."""

    def __init__(self, topic: str, partition: int, offset: int | None, setting: str) -> None:
        self.topic = topic
        self.partition = partition
        self.offset = offset
        self.setting = setting
        found = "no committed offset" if offset is None else f"offset {offset} does not exist (any more)"
        super().__init__(
            f"{topic}[{partition}]: {found}, and {setting} says to stop; "
            f"set {setting} to 'earliest' or 'latest', or seek the group to a valid offset"
        )


@final
class RecordFailed(FatalError):
    """A record used up its attempts and `on_exhausted` is "stop". Its offset is not committed; it is redelivered at the next start."""

    def __init__(
        self,
        topic: str,
        partition: int,
        offset: int,
        attempts: int,
        cause: BaseException,
    ) -> None:
        self.topic = topic
        self.partition = partition
        self.offset = offset
        self.attempts = attempts
        self.__cause__ = cause
        super().__init__(
            f"{topic}[{partition}] offset {offset} failed {attempts} time(s), last with {type(cause).__name__}: {cause}; "
            "mend the handler, or set dead_letter= or on_exhausted='skip'"
        )


@final
class DeadLetterFailed(FatalError):
    """A dead letter could not be produced and `on_dead_letter_failure` is "stop". The record is not committed."""

    def __init__(self, topic: str, dead_letter_topic: str, detail: str) -> None:
        self.topic = topic
        self.dead_letter_topic = dead_letter_topic
        self.detail = detail
        super().__init__(f"a record of {topic} could not be written to {dead_letter_topic}: {detail}")


@final
class HandlerStopped(FatalError):
    """A handler raised `SystemExit`, `KeyboardInterrupt` or `MemoryError`: the app stops and that record is not finished."""

    def __init__(self, topic: str, partition: int, offset: int, cause: BaseException) -> None:
        self.topic = topic
        self.partition = partition
        self.offset = offset
        self.__cause__ = cause
        super().__init__(
            f"handler of {topic}[{partition}] offset {offset} raised {type(cause).__name__}: {cause}"
        )


@final
class InternalFailure(FatalError):
    """The runtime itself broke: a bug of ours, please report the cause. It stopped without waiting for handlers or committing more."""

    def __init__(self, where: str, cause: BaseException) -> None:
        self.where = where
        self.__cause__ = cause
        super().__init__(
            f"{where} failed with {type(cause).__name__}: {cause}; this is a bug in Headrace, please report it"
        )


@final
class Stalled(FatalError):
    """Something was stuck, and `on_stall` is "exit". `what` names it, `evidence` shows where it stood; start the process anew."""

    def __init__(self, what: str, stalled_s: float, evidence: str) -> None:
        self.what = what
        self.stalled_s = stalled_s
        self.evidence = evidence
        super().__init__(
            f"{what} was stuck for {stalled_s:.1f} s ({evidence}), and on_stall says to exit; "
            "what was not committed is handled again by the next member"
        )


@final
class LoopEnded(FatalError):
    """The event loop of the async handlers ended while the app ran: code on it stopped or closed it, or raised `SystemExit`."""

    def __init__(self, cause: BaseException | None) -> None:
        self.__cause__ = cause
        why = "" if cause is None else f" with {type(cause).__name__}: {cause}"
        super().__init__(
            f"the handlers' event loop ended{why}; stop the app with app.request_stop(), and do not stop the loop"
        )


@final
class ForcedStop(FatalError):
    """The stop budget ran out, or a stop at once was asked for. `abandoned` names the handlers that still ran.

    Their records are redelivered.
    """

    def __init__(self, timeout_s: float, abandoned: Sequence[str], *, asked: bool = False) -> None:
        self.timeout_s = timeout_s
        self.abandoned = tuple(abandoned)
        self.asked = asked
        names = ", ".join(self.abandoned) or "nothing that could be named"
        reason = "stopped at once, as asked" if asked else f"stop took longer than {timeout_s:g} s"
        super().__init__(f"{reason}; abandoned: {names}")


@final
class ProduceFailed(HeadraceError):
    """A record given to `app.produce` was not acknowledged by the broker.

    Fails the record whose handler produced it. `permanent`: another try cannot help (too large, not authorized, no such
    topic), so the record is given up at once.
    """

    def __init__(self, topic: str, code: str, detail: str, *, permanent: bool) -> None:
        self.topic = topic
        self.code = code
        self.detail = detail
        self.permanent = permanent
        super().__init__(f"producing to {topic} failed ({code}): {detail}")


@final
class HandlerTimeout(HeadraceError):
    """A handler ran longer than `timeout_s` and was cancelled. Counts as that record's failure."""

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        super().__init__(f"the handler was cancelled after timeout_s = {timeout_s:g}")


@final
class DecodeFailed(HeadraceError):
    """`key_decoder` or `value_decoder` raised. Counts as that record's failure; the raw bytes are kept in the dead letter."""

    def __init__(self, what: str, cause: BaseException) -> None:
        self.what = what
        self.__cause__ = cause
        super().__init__(f"{what} raised {type(cause).__name__}: {cause}")


@final
class WorkerDied(HeadraceError):
    """A worker process ended while it ran this record. Counts as that record's failure."""

    def __init__(self, pid: int, exit_code: int | None) -> None:
        self.pid = pid
        self.exit_code = exit_code
        super().__init__(f"worker process {pid} died with exit code {exit_code} while it ran this record")


@final
class LifespanFailed(FatalError):
    """A lifespan raised while it was entered; nothing was consumed.

    What a worker resource raises fails the record that its worker was to begin with; in worker processes it is `WorkersFailed`.
    """

    def __init__(self, what: str, cause: BaseException) -> None:
        self.what = what
        self.__cause__ = cause
        super().__init__(f"{what} raised {type(cause).__name__} while it was entered: {cause}")


@final
class WorkersFailed(FatalError):
    """Worker processes cannot be started, or keep dying while they start. The cause says why."""

    def __init__(self, subscription: str, cause: BaseException) -> None:
        self.subscription = subscription
        self.__cause__ = cause
        super().__init__(f"worker processes of {subscription} cannot run: {cause}")
