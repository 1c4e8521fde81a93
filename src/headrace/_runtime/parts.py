"""What an owner is made of: the engine, and everything outside it that the owner's loop needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from headrace._core.effects import HoldingsChanged, ProduceDeadLetter
    from headrace._core.engine import Engine
    from headrace._core.notices import Notice
    from headrace._runtime.inbox import Inbox
    from headrace._runtime.loop_beat import LoopBeat
    from headrace.config import Commit, OnStall, Timeouts
    from headrace.ports import Client, Executor, TopicPartition
    from headrace.subscriptions import SubscriptionSettings

POLL_IDLE_S = 0.1
"""How long a poll waits while nothing is in flight: a request of the user waits at most this long."""


def ignore(_effect: HoldingsChanged) -> None:
    """Nobody keeps count of what is held: so in the simulator, whose judge believes no member."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What an owner is made of. `make_client` is called on the owner thread, again for each rebuilding."""

    make_client: Callable[[], Client]
    engine: Engine
    executors: Sequence[Executor]
    subscriptions: Sequence[SubscriptionSettings]
    topics: Sequence[str]
    check_topics: Sequence[str]
    produce_dead_letter: Callable[[ProduceDeadLetter], None]
    on_rebalance: Callable[[str, Sequence[TopicPartition]], None]
    inbox: Inbox
    tell: Callable[[Notice], None]
    clock: Callable[[], float]
    timeouts: Timeouts
    commit: Commit
    poll_idle_s: float = POLL_IDLE_S
    group_protocol: str = "classic"
    on_stall: OnStall = "report"
    loop_beat: LoopBeat | None = None
    on_holdings: Callable[[HoldingsChanged], None] = ignore
