"""What the client reports beside records, and partitions that must move: out of range, or sought by the user.

Decides which fault is fatal; looks up offsets outside callbacks, bounded, and tries again what could not be looked up.
Owner thread only.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from headrace._core import notices
from headrace._core.events import SeekAsked
from headrace.errors import ClientFailed, Fenced, NotAuthorized, OffsetUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from headrace._core.engine import Engine
    from headrace._core.notices import Notice
    from headrace._runtime.inbox import MoveAsked
    from headrace.errors import FatalError
    from headrace.ports import Client, Fault, TopicPartition
    from headrace.subscriptions import SubscriptionSettings

RETRY_S = 0.5
SILENT_TOO_LONG = "_MAX_POLL_EXCEEDED"
OWN_FENCES = frozenset({"FENCED_INSTANCE_ID", "_FENCED"})
"""What a former self under the same instance id is told; the other fences are the group's own."""
GONE = frozenset({"_AUTO_OFFSET_RESET", "OFFSET_OUT_OF_RANGE"})
"""What names the offset that the client asked for: never one before our position, which is that of the next record."""
LOST_BEFORE_S = 1.0
"""How long before a fence a loss must lie to be what led to it: another member's fence comes with the loss that it makes."""
WAKES_S = 5.0
"""How long after a sleep a fence may come from it: what was under way is answered as soon as the client turns again."""


class Faults:
    """Faults of one connection, and the moves they lead to."""

    __slots__ = (
        "_clock",
        "_engine",
        "_lost_at",
        "_moves",
        "_rebuild",
        "_retry_at",
        "_returned",
        "_settings_of",
        "_tell",
        "_was_silent",
        "_woke_at",
    )

    def __init__(
        self,
        tell: Callable[[Notice], None],
        settings_of: Callable[[str], SubscriptionSettings | None],
        engine: Engine,
        clock: Callable[[], float],
    ) -> None:
        self._tell = tell
        self._clock = clock
        self._engine = engine
        self._settings_of = settings_of
        # Where to, and whether because the offset does not exist (then: which offset).
        self._moves: dict[TopicPartition, tuple[int | str, str, int | None]] = {}
        self._retry_at = 0.0
        self._rebuild: str | None = None
        # We polled too late, and no fence has followed yet.
        self._was_silent = False
        # When a poll came after more than a session: the client had given up the session itself by then.
        self._woke_at: float | None = None
        # Since when we are without what the group took from us, until it gives us something.
        self._lost_at: float | None = None
        self._returned: set[str] = set()

    def take_all(self, faults: Sequence[Fault], silent_s: float, client: Client) -> FatalError | None:
        """Deal with what one poll brought; `silent_s` since the last one. The first error is the one to stop with.

        The order in which the client tells of a fence and of the silence before it is no evidence.
        """
        if silent_s > client.session_timeout_s:
            self._woke_at = self._clock()
        if silent_s > client.max_poll_interval_s or any(fault.code == SILENT_TOO_LONG for fault in faults):
            self._was_silent = True
        errors = [error for fault in faults if (error := self.take(fault)) is not None]
        return errors[0] if errors else None

    def take(self, fault: Fault) -> FatalError | None:
        """Deal with one fault; returns the error to stop with, if it is that bad. A dead client repeats its last one."""
        error = self._error_of(fault)
        if error is not None:
            error = self.judge(error)
        if error is None or str(error) in self._returned:
            return None
        self._returned.add(str(error))
        return error

    def judge(self, error: FatalError) -> FatalError | None:
        """None for a fence that we brought upon ourselves: a new client joins as the same member, once per silence or loss.

        A classic static member that polled too late, or that the group had given up, joins anew under its own instance id,
        and that fences what its former self had under way, as a join that nobody answered while a coordinator moved, or a
        commit; librdkafka calls it fatal. Without a silence or a loss before it, it is another member, and stays the end.
        """
        # Told more than once: by the client, and by the answer to each commit. All are excused until a new client joins.
        if not isinstance(error, Fenced) or error.code not in OWN_FENCES:
            return error
        if self._was_silent:
            why = "polled too late"
        elif self._lost_at is not None and self._clock() - self._lost_at >= LOST_BEFORE_S:
            why = "had been given up by the group"
        elif (
            self._lost_at is not None
            and self._woke_at is not None
            and self._clock() - self._woke_at < WAKES_S
        ):
            why = "slept for longer than the session"
        else:
            return error
        self._rebuild = f"{error.code}: we {why}, joined anew and fenced our former self"
        return None

    def lost(self) -> None:
        """The group took everything without asking: we join anew."""
        self._lost_at = self._clock() if self._lost_at is None else self._lost_at

    def assigned(self) -> None:
        """The group gave us partitions: we are in it, and a fence from now on is another member's."""
        self._lost_at = None

    def _error_of(self, fault: Fault) -> FatalError | None:
        match fault.kind:
            case "offset_out_of_range":
                return self._out_of_range(fault)
            case "not_authorized":
                return NotAuthorized(fault.topic or "the group", f"{fault.code}: {fault.detail}")
            case "fenced":
                return Fenced(fault.code, fault.detail)
            case "fatal":
                return ClientFailed(fault.code, fault.detail)
            case "rebuild":
                self._rebuild = f"{fault.code}: {fault.detail}"
            case "ignore":
                pass
            case _:  # "log", "topic_missing" while running: librdkafka goes on by itself when it can.
                self._tell(notices.ClientFault(fault.code, fault.detail))
        return None

    def forget(self) -> None:
        """A new client joins: what the one before was told is over."""
        self._was_silent, self._woke_at, self._lost_at, self._rebuild = False, None, None, None
        self._returned.clear()

    def pop_rebuild(self) -> str | None:
        """Why the connection must be rebuilt, once, or None."""
        reason, self._rebuild = self._rebuild, None
        return reason

    def ask_move(self, asked: MoveAsked) -> None:
        """The user seeks."""
        to = asked.to
        if isinstance(to, datetime):
            self._moves[asked.partition] = (f"@{int(to.timestamp() * 1000)}", "user", None)
        else:
            self._moves[asked.partition] = (to, "user", None)
        self._retry_at = 0.0

    def moves_due(self, now: float) -> bool:
        """Whether partitions wait to be moved, and it is time to try."""
        return bool(self._moves) and now >= self._retry_at

    def resolve_moves(self, client: Client, timeout_s: float, now: float) -> list[SeekAsked]:
        """Look up where to; what cannot be looked up in time is tried again later."""
        lookups: dict[TopicPartition, str | int] = {}
        targets: dict[TopicPartition, int] = {}
        for key, (to, _, _) in self._moves.items():
            if isinstance(to, int):
                targets[key] = to
            else:
                lookups[key] = int(to[1:]) if to.startswith("@") else to
        if lookups:
            answer = client.resolve(lookups, timeout_s)
            if answer is None:
                self._retry_at = now + RETRY_S
            else:
                targets |= answer
        seeks: list[SeekAsked] = []
        for key, target in targets.items():
            _, reason, offset = self._moves.pop(key)
            if reason != "user":
                self._tell(notices.OffsetOutOfRange(*key, offset=offset, target=target))
            seeks.append(SeekAsked(*key, target, reason))
        return seeks

    def _out_of_range(self, fault: Fault) -> FatalError | None:
        if fault.topic is None or fault.partition is None:
            self._tell(notices.ClientFault(fault.code, fault.detail))
            return None
        settings = self._settings_of(fault.topic)
        if settings is None:
            return None
        key = (fault.topic, fault.partition)
        if self._is_past(key, fault):
            return None
        if self._engine.began_fresh(key) and settings.start_if_no_offset != "latest":
            # Retention overtook a start that was looked up a moment ago: nothing that was ours is missing.
            self._moves.setdefault(key, ("earliest", "out of range", fault.offset))
            self._retry_at = 0.0
            return None
        if settings.on_out_of_range == "stop":
            return OffsetUnavailable(fault.topic, fault.partition, fault.offset, "on_out_of_range")
        self._moves.setdefault(key, (settings.on_out_of_range, "out of range", fault.offset))
        self._retry_at = 0.0
        return None

    def _is_past(self, key: TopicPartition, fault: Fault) -> bool:
        """Whether the offset that is gone is one that we do not want: asked for before the partition came back to us.

        A truncated log is another matter: what it names lies below our position.
        """
        position = self._engine.position_of(key)
        if fault.code not in GONE or fault.offset is None or position is None:
            return False
        return 0 <= fault.offset < position
