"""Refusing commits at chosen phases of members' lives: when the history shows that a phase is reached.

Decides when a refusal is due; the model coordinator refuses. Invariant: no more refusals than the scenario names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from headrace.testing.simulation import history as told

if TYPE_CHECKING:
    from collections.abc import Sequence

    from headrace.testing.simulation.model.kafka import ModelKafka
    from headrace.testing.simulation.scenario import Phase, Refusal


@final
class Refusing:
    """The refusals of one scenario."""

    __slots__ = ("_kafka", "_left", "_running")

    def __init__(self, refusals: Sequence[Refusal], kafka: ModelKafka) -> None:
        self._kafka = kafka
        # Rounds that are left of each.
        self._left = {refusal: refusal.rounds for refusal in refusals}
        # Handlers at work, by member.
        self._running: dict[str, int] = {}

    def see(self, entry: told.Entry) -> None:
        """Something happened."""
        if not self._left:
            return
        match entry:
            case told.Assigned():
                self._reached("assign")
            case told.HandlerStarted(member=member):
                self._running[member] = self._running.get(member, 0) + 1
                self._reached("run")
            case told.HandlerEnded(member=member):
                self._running[member] -= 1
            case told.RevokeBegan(member=member):
                if self._running.get(member, 0):
                    self._reached("drain")
                self._reached("revoke")
            case told.StopAsked():
                self._reached("stop")
            case told.FaultsOver():
                self._left.clear()
            case _:
                pass

    def _reached(self, phase: Phase) -> None:
        for refusal, rounds in self._left.items():
            if refusal.phase == phase and rounds > 0:
                self._left[refusal] = rounds - 1
                for _ in range(refusal.commits):
                    self._kafka.refuse_next("OffsetCommit", refusal.code)
