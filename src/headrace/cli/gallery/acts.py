"""The table of acts. A new act is a module with `play(stage)` and a row here; the command, docs and tests follow the table.

Refuses to know how an act is played.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from headrace.cli.gallery import faststream, karafka, sarama, spark, storm

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from headrace.cli.gallery.stage import Stage
    from headrace.cli.gallery.verdict import Verdict


@dataclass(frozen=True, slots=True)
class Act:
    """One failure. after: where it happened. what: the failure in a sentence."""

    after: str
    what: str
    play: Callable[[Stage], Verdict]


ACTS: Final[Mapping[str, Act]] = MappingProxyType(
    {
        "storm": Act(
            "Apache Storm 2.6.0 to 2.6.4",
            "A metrics reporter asks the consumer that another thread polls.",
            storm.play,
        ),
        "karafka": Act(
            "Karafka, dynamic multiplexing",
            "A live map of the assignment is iterated while a rebalance changes it.",
            karafka.play,
        ),
        "spark": Act(
            "Spark Streaming up to 2.3",
            "Two tasks of one process read different ranges through one cached consumer.",
            spark.play,
        ),
        "sarama": Act(
            "Sarama 1.24 to 1.39, sticky strategy",
            "One planner serves all groups of a process, and they meet in its map of movements.",
            sarama.play,
        ),
        "faststream": Act(
            "FastStream 0.5.0 to 0.5.3 on aiokafka",
            "A commit refused in a rebalance ends the only consuming task, in silence.",
            faststream.play,
        ),
    }
)
