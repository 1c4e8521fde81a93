"""What a scaling app asks of its cluster: how many processes share its group, and where partitions end.

On clients of its own, made at the first question. One question about the group is out at a time, and is left much time; one
that is given up, by patience or by `close`, goes with its client, see `inspection`. Invariant: connections of one process
are counted once: only the first of each has no number of its own in its client id. Used by one thread.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any, final

from headrace._client.admin import Observer
from headrace._client.inspection import Inspector
from headrace._core.scaling import GroupView
from headrace.errors import HeadraceError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from concurrent.futures import Future

    from headrace._client.inspection import GroupState
    from headrace._client.settings import ConnectionSettings
    from headrace.ports import TopicPartition


PATIENCE_S = 10.0
"""How long the cluster may take to describe the group; until it did, no connection is opened. Not longer: a question that is
asked just when the coordinator goes is often never answered by librdkafka 2.16, though the coordinator comes back."""
NUMBERED = re.compile(r"(.+)-[1-9]\d*")
"""The client id of a further connection: that of the first, and its number."""


@final
class KafkaLookout:
    """See `headrace._runtime.lookout`."""

    def __init__(self, settings: ConnectionSettings) -> None:
        self._settings = settings
        self._inspector: Inspector | None = None
        self._observer: Observer | None = None
        self._asked: Future[Any] | None = None
        self._asked_at = 0.0
        base = settings.librdkafka.get("client.id")
        named = r"headrace-\d+" if base is None else re.escape(str(base))
        self._more = re.compile(rf"{named}-[1-9]\d*")

    def group(self, timeout_s: float) -> GroupView | None:
        """See `Lookout.group`."""
        if self._inspector is None:
            self._inspector = Inspector(self._settings)
        if self._asked is None:
            self._asked, self._asked_at = (
                self._inspector.ask_group(self._settings.group_id),
                time.monotonic(),
            )
        try:
            state = self._inspector.answer(self._asked, timeout_s)
        except TimeoutError:
            if time.monotonic() - self._asked_at >= PATIENCE_S:
                self._inspector.drop()
                self._asked = None
            return None
        self._asked = None
        return None if state is None else self._seen(state)

    def ends(
        self, partitions: Sequence[TopicPartition], timeout_s: float
    ) -> dict[TopicPartition, int] | None:
        """See `Lookout.ends`."""
        if self._observer is None:
            self._observer = Observer(self._settings)
        try:
            return self._observer.ends(partitions, timeout_s)
        except HeadraceError:
            return None

    def close(self) -> None:
        """See `Lookout.close`."""
        if self._inspector is not None:
            self._inspector.drop()
        self._asked = self._inspector = self._observer = None

    def _seen(self, state: GroupState) -> GroupView:
        ids = {member.client_id for member in state.members}
        firsts = sum(not self._is_further(member.client_id, ids) for member in state.members)
        return GroupView(sum(member.partitions for member in state.members), max(1, firsts))

    def _is_further(self, client_id: str, ids: Collection[str]) -> bool:
        """Whether this is one more connection of a process, by its number: with our `client.id`, or with one of the group's."""
        numbered = NUMBERED.fullmatch(client_id)
        return self._more.fullmatch(client_id) is not None or (numbered is not None and numbered[1] in ids)
