"""Commits: when one is sent, what is in it, and what its answer means.

At most one commit is in flight per connection: while one has no answer no newer one leaves, for librdkafka may write it
at any moment, also after the newer one. Only the last commit of partitions that go cannot wait. An offset is clean only
when the broker confirmed it; a refused commit leaves it dirty and is sent again, with backoff, until it is confirmed or
the partition is lost. An answer says what was *written*, not what is newest: if that is below what was confirmed before,
the partition is dirty again. A commit error never changes an epoch.

Owner thread only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from headrace._core import notices
from headrace._core.effects import Rebuild, SendCommit, StopApp, Tell
from headrace._core.farewells import Farewells
from headrace._core.flights import FORGOTTEN_AFTER_S, Flights
from headrace._core.offset_map import METADATA_CHARS_MAX, encode
from headrace._core.refusals import CommitAction, refusal_of
from headrace._core.states import COMMIT_TRANSITIONS, CommitState, CommitTrigger, advance
from headrace._core.suspects import Suspects
from headrace.errors import ClientFailed, Fenced, NotAuthorized, TopicMissing
from headrace.ports import CommitRequest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from headrace._core.effects import Effect
    from headrace._core.tenure import CommitMark, Tenure
    from headrace.config import Commit
    from headrace.ports import CommitResult, TopicPartition


MAP_CHARS_MAX = METADATA_CHARS_MAX - 1
"""One less than the broker allows: librdkafka sends the string with its terminating NUL, and the broker counts that."""


@dataclass(frozen=True, slots=True)
class _Sent:
    """What the newest commit says of one partition."""

    epoch: int
    offset: int
    mark: CommitMark


class Commits:
    """The commits of one connection."""

    __slots__ = (
        "_backoff_s",
        "_code",
        "_episode_at",
        "_farewells",
        "_flights",
        "_given_up",
        "_newest",
        "_next_at",
        "_overdue_told",
        "_patient",
        "_policy",
        "_rebuild_after_s",
        "_refusals",
        "_refused_at",
        "_sent",
        "_sent_at",
        "_suspects",
        "_unexplained_at",
        "confirmed",
        "confirmed_at",
        "finished_since",
        "refused",
        "sent",
        "state",
    )

    def __init__(self, policy: Commit, rebuild_after_s: float) -> None:
        self._policy = policy
        self._rebuild_after_s = rebuild_after_s
        self.state = CommitState.IDLE
        self._next_at = 0.0
        self._sent: dict[TopicPartition, _Sent] = {}
        self._sent_at = 0.0
        # Offsets whose commit was replaced before it was answered: an answer that names one may be that older one's.
        self._given_up: dict[TopicPartition, set[int]] = {}
        self._flights = Flights()
        # Whether the commit in flight has been waited for less than the policy's time.
        self._patient = True
        # Content of the newest commit.
        self._newest: dict[TopicPartition, int] = {}
        self._farewells = Farewells()
        self._backoff_s = policy.backoff_initial_s
        # An episode runs from the first refusal to the next confirmation.
        self._episode_at: float | None = None
        self._refusals = 0
        self._refused_at = 0.0
        self._code = ""
        self._overdue_told = False
        # Since when the group refuses us without a rebalance that would explain it.
        self._unexplained_at: float | None = None
        self._suspects = Suspects()
        self.finished_since = 0
        self.sent = 0
        self.confirmed = 0
        self.refused = 0
        self.confirmed_at: float | None = None

    @property
    def unanswered(self) -> bool:
        """Whether a commit is in flight."""
        return self.state is CommitState.IN_FLIGHT

    def episode(self) -> tuple[str, int, float] | None:
        """Code, count and beginning of the present episode of refusals, if there is one."""
        return None if self._episode_at is None else (self._code, self._refusals, self._episode_at)

    def on_its_way(self, tenure: Tenure) -> int | None:
        """The offset of this tenure that is being committed now, if one is."""
        sent = self._sent.get(tenure.key)
        return sent.offset if self.unanswered and sent is not None and sent.epoch == tenure.epoch else None

    def rebalanced(self) -> None:
        """A rebalance callback came: refusals before it are explained."""
        self._unexplained_at = None

    def hurry(self, now: float) -> None:
        """Commit as soon as the rules allow, not at the next tick of the timer. A backoff is not cut short."""
        if self.state is not CommitState.BACKING_OFF:
            self._next_at = min(self._next_at, now)

    def press(self, now: float) -> None:
        """Commit as soon as the rules allow, with the shortest backoff: the app stops, there is no later."""
        soonest = now
        if self.state is CommitState.BACKING_OFF:
            soonest = max(now, self._refused_at + self._policy.backoff_initial_s)
        self._next_at = min(self._next_at, soonest)

    def next_deadline(self) -> float:
        """When `step` must be called again, at the latest."""
        match self.state:
            case CommitState.IN_FLIGHT:
                if self._patient:
                    return self._sent_at + self._policy.timeout_s
                alert_at = (self._episode_at or 0.0) + self._policy.alert_after_s
                forgotten_at = self._sent_at + FORGOTTEN_AFTER_S
                return forgotten_at if self._overdue_told else min(alert_at, forgotten_at)
            case CommitState.BACKING_OFF:
                return self._next_at
            case CommitState.IDLE:
                return self._next_at

    def step(self, tenures: Iterable[Tenure], now: float) -> list[Effect]:
        """Send what is due, tell of what goes unanswered."""
        effects: list[Effect] = []
        if self.state is CommitState.IN_FLIGHT:
            if self._patient and now >= self._sent_at + self._policy.timeout_s:
                self._patient = False
                effects += self._note_refusal("no answer", now)
                effects += self._farewells.given_up("no answer")
            if now < self._sent_at + FORGOTTEN_AFTER_S:
                return [*effects, *self._alarm(now)]
            self._flights.forget()
            effects += self._refuse("no answer", CommitTrigger.UNANSWERED, now)
        every = self._policy.every_records
        enough = every is not None and self.finished_since >= every and self.state is CommitState.IDLE
        if now < self._next_at and not enough:
            return effects
        if self.state is CommitState.BACKING_OFF:
            self.state = advance(COMMIT_TRANSITIONS, self.state, CommitTrigger.BACKED_OFF)
        self._next_at = now + self._policy.every_s
        dirty = self._suspects.share([tenure for tenure in tenures if is_dirty(tenure)])
        if dirty:
            effects += self._send(dirty, now)
        return effects

    def farewell(self, tenures: Sequence[Tenure], now: float) -> list[Effect]:
        """The last commit of partitions that go, sent even if another is in flight: there is no later."""
        effects: list[Effect] = []
        dirty: list[Tenure] = []
        for tenure in tenures:
            sent = self._sent.get(tenure.key)
            on_its_way = (
                self.unanswered
                and tenure.key in self._newest
                and sent is not None
                and (sent.epoch, sent.mark) == (tenure.epoch, mark_of(tenure))
            )
            if not is_dirty(tenure):
                effects.append(
                    Tell(
                        notices.RevokeConfirmed(
                            *tenure.key, offset=committable(tenure), drained=tenure.drained
                        )
                    )
                )
                continue
            if not on_its_way:
                dirty.append(tenure)
            self._farewells.add(tenure.key, committable(tenure), drained=tenure.drained)
        if dirty:
            effects += self._send(dirty, now)
        return effects

    def forget(self, tenure: Tenure) -> None:
        """The partition is lost, or its position was moved: answers about it mean nothing any more."""
        self._farewells.forget(tenure.key)
        sent = self._sent.pop(tenure.key, None)
        if sent is not None:
            self._given_up.setdefault(tenure.key, set()).add(sent.offset)

    def closed(self) -> list[Effect]:
        """The client is closed: no answer can come any more."""
        self._flights.forget()
        if self.state is CommitState.IN_FLIGHT:
            self.state = advance(COMMIT_TRANSITIONS, self.state, CommitTrigger.UNANSWERED)
        return self._farewells.given_up("the connection was closed before an answer came")

    def answered(
        self, results: Sequence[CommitResult], tenures: Mapping[TopicPartition, Tenure], now: float
    ) -> list[Effect]:
        """Take in an answer, of the newest commit or of an older one."""
        effects: list[Effect] = []
        self._flights.answered({(result.topic, result.partition): result.offset for result in results})
        ends_flight = not self._flights or self.state is not CommitState.IN_FLIGHT
        failed: list[CommitResult] = []
        for result in results:
            key = (result.topic, result.partition)
            tenure = tenures.get(key)
            if result.error is not None:
                failed.append(result)
                self._not_written(key, result.offset, tenure)
            elif tenure is not None:
                effects += self._written(tenure, result.offset)
            else:
                self._is_answer(key, result.offset)
            if tenure is None:
                others = self._flights.flying(key)
                effects += self._farewells.answered(key, result.offset, result.error, others=others)
        if failed:
            for result in failed:
                effects += self._act(result, tenures.get((result.topic, result.partition)), now)
            effects += self._suspect(failed, now)
            if ends_flight:
                effects += self._refuse(failed[0].error or "", CommitTrigger.REFUSED, now)
        elif results:
            self._suspects.written({result.topic for result in results})
            if ends_flight:
                effects += self._confirm(now)
        return effects

    def not_sent(self, code: str, now: float) -> list[Effect]:
        """The client would not send it: as if refused."""
        self._flights.not_sent()
        for key in self._newest:
            self._sent.pop(key, None)
        effects = self._farewells.failed(self._newest, code)
        if self._flights:
            return [*effects, *self._note_refusal(code, now)]
        return [*effects, *self._refuse(code, CommitTrigger.REFUSED, now)]

    def _send(self, dirty: Sequence[Tenure], now: float) -> list[Effect]:
        effects: list[Effect] = []
        requests: list[CommitRequest] = []
        for tenure in dirty:
            metadata = ""
            if not tenure.keeps_position_only and not tenure.map_refused:
                encoded = encode(
                    tenure.ledger.finished_beyond(), leader_epoch=tenure.leader_epoch, limit=MAP_CHARS_MAX
                )
                metadata = encoded.metadata
                if encoded.dropped:
                    effects.append(Tell(notices.OffsetMapTruncated(*tenure.key, dropped=encoded.dropped)))
            tenure.map_chars = len(metadata)
            offset = committable(tenure)
            requests.append(CommitRequest(*tenure.key, offset, metadata, tenure.leader_epoch))
            replaced = self._sent.get(tenure.key)
            if replaced is not None:
                self._given_up.setdefault(tenure.key, set()).add(replaced.offset)
            self._sent[tenure.key] = _Sent(tenure.epoch, offset, mark_of(tenure))
        self.state = advance(COMMIT_TRANSITIONS, self.state, CommitTrigger.SENT)
        self._newest = {(request.topic, request.partition): request.offset for request in requests}
        self._flights.sent(dict(self._newest), now)
        self._sent_at = now
        self._patient = True
        self.finished_since = 0
        self.sent += 1
        return [*effects, SendCommit(requests)]

    def _written(self, tenure: Tenure, offset: int) -> list[Effect]:
        """The broker says that `offset` is now what it holds for this partition."""
        effects: list[Effect] = []
        sent = self._is_answer(tenure.key, offset)
        if sent is not None and sent.epoch == tenure.epoch:
            tenure.confirmed, tenure.confirmed_mark = offset, sent.mark
            tenure.map_refused = False
            return effects
        # An answer to an older commit. Whatever it wrote, what is newest must be sent (again).
        if tenure.confirmed is not None and offset < tenure.confirmed:
            effects.append(
                Tell(notices.CommitWentBack(*tenure.key, written=offset, confirmed=tenure.confirmed))
            )
        tenure.confirmed, tenure.confirmed_mark = offset, None
        return effects

    def _is_answer(self, key: TopicPartition, offset: int) -> _Sent | None:
        """The newest commit of this partition, if the answer is certainly its own.

        Answers carry no identity. Where one given up named the same offset with another map, this may be either's: it
        ends the wait, and proves nothing.
        """
        sent, given_up = self._sent.get(key), self._given_up.get(key)
        older = given_up is not None and offset in given_up
        if sent is not None and sent.offset == offset:
            del self._sent[key]
            self._given_up.pop(key, None)
            return None if older else sent
        if given_up is not None and older:
            given_up.discard(offset)
        return None

    def _not_written(self, key: TopicPartition, offset: int, tenure: Tenure | None) -> None:
        """Refused: dirty, even if an answer taken for this commit's own was an older one's."""
        self._is_answer(key, offset)
        if tenure is not None:
            tenure.confirmed_mark = None

    def _act(self, result: CommitResult, tenure: Tenure | None, now: float) -> list[Effect]:
        code = result.error or ""
        refusal = refusal_of(code)
        match refusal.action:
            case CommitAction.RETRY:
                return []
            case CommitAction.RETRY_WITHOUT_MAP:
                if tenure is not None:
                    tenure.map_refused = True
                return []
            case CommitAction.FENCED:
                return [StopApp(Fenced(code, "a commit was refused for good"))]
            case CommitAction.FATAL:
                return [StopApp(ClientFailed(code, f"a commit was refused: {refusal.why}"))]
            case CommitAction.NOT_AUTHORIZED:
                return [StopApp(NotAuthorized(f"committing offsets of {result.topic}", code))]
            case CommitAction.RETRY_OR_REBUILD:
                if self._unexplained_at is None:
                    self._unexplained_at = now
                elif now - self._unexplained_at >= self._rebuild_after_s:
                    self._unexplained_at = None
                    return [
                        Rebuild(
                            f"commits refused with {code} for {self._rebuild_after_s:g} s without a rebalance"
                        )
                    ]
                return []
            case CommitAction.TOPIC_MISSING:
                return []  # Which topic it is must be found out first.

    def _suspect(self, failed: Sequence[CommitResult], now: float) -> list[Effect]:
        """Find out which topic is missing; stop if it stays so."""
        topics = {
            result.topic
            for result in failed
            if refusal_of(result.error or "").action is CommitAction.TOPIC_MISSING
        }
        if topics:
            self._suspects.refused(topics, now)
        gone = self._suspects.gone(now, self._policy.alert_after_s)
        return [] if gone is None else [StopApp(TopicMissing([gone]))]

    def _refuse(self, code: str, trigger: CommitTrigger, now: float) -> list[Effect]:
        self.state = advance(COMMIT_TRANSITIONS, self.state, trigger)
        self._refused_at = now
        self._next_at = now + self._backoff_s
        self._backoff_s = min(self._backoff_s * 2, self._policy.backoff_max_s)
        return self._note_refusal(code, now)

    def _note_refusal(self, code: str, now: float) -> list[Effect]:
        self.refused += 1
        self._refusals += 1
        self._code = code
        if self._episode_at is None:
            self._episode_at = now
        effects: list[Effect] = []
        age_s = now - self._episode_at
        if self._refusals & (self._refusals - 1) == 0:  # 1, 2, 4, 8 ...: one line per doubling
            effects.append(Tell(notices.CommitRefused(code, self._refusals, age_s)))
        return [*effects, *self._alarm(now)]

    def _alarm(self, now: float) -> list[Effect]:
        """Tell once of an episode that lasts too long."""
        age_s = 0.0 if self._episode_at is None else now - self._episode_at
        if age_s < self._policy.alert_after_s or self._overdue_told:
            return []
        self._overdue_told = True
        return [Tell(notices.CommitOverdue(age_s, self._code))]

    def _confirm(self, now: float) -> list[Effect]:
        effects: list[Effect] = []
        self.confirmed += 1
        self.confirmed_at = now
        if self._episode_at is not None and not self._suspects:
            effects.append(Tell(notices.CommitRecovered(self._refusals, now - self._episode_at)))
            self._episode_at, self._refusals, self._overdue_told = None, 0, False
        self._unexplained_at = None
        self._backoff_s = self._policy.backoff_initial_s
        self.state = advance(COMMIT_TRANSITIONS, self.state, CommitTrigger.CONFIRMED)
        return effects


def committable(tenure: Tenure) -> int:
    """The offset to commit: the first record not known finished, or whatever was delivered where nothing is promised."""
    if tenure.keeps_position_only:
        return tenure.ledger.position
    return tenure.ledger.committable


def mark_of(tenure: Tenure) -> CommitMark:
    """What would be committed now, in a form that compares quickly."""
    if tenure.keeps_position_only:
        return (tenure.ledger.position, 0)
    return (tenure.ledger.committable, tenure.ledger.finished)


def is_dirty(tenure: Tenure) -> bool:
    """Whether the broker does not yet hold what would be committed now."""
    if tenure.dropped or tenure.confirmed_mark == mark_of(tenure):
        return False
    # The last commit of an epoch before may be written after this one began below it: it is not to be taken back.
    # But at_most_once starts nothing before a commit of its own.
    free = tenure.rewinds or tenure.keeps_position_only or tenure.confirmed is None
    return free or committable(tenure) >= (tenure.confirmed or 0)
