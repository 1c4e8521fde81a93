"""Worlds that once broke a promise: a seed, or a scenario as JSON, and one sentence on what was wrong.

A seed draws another world when the drawing changes; what must be kept whatever is drawn is kept as JSON.
"""

from __future__ import annotations

from typing import Final

REGRESSIONS: Final[tuple[tuple[int | str, str], ...]] = (
    (
        514694,
        "S2: where a member that is frozen had begun, and never committed, was taken for the group's start",
    ),
    (529587, "S2: a seek beside a member that was frozen was judged by where the group had been before it"),
    (
        1018801,
        "S2: an offset that was gone, asked for before a sleep, moved the partition that had come back meanwhile",
    ),
    (
        1048569,
        "S3: the next owner was blamed for what its map called finished, by a seek of a forgotten member",
    ),
    (
        904167,
        "S4: a partition assigned anew for its silence answered a revoke that was still to come, whose commit undid the next owner's",
    ),
    (133734, "S5: a commit that landed after the next assignment was taken for one that it had been told of"),
    (
        139820,
        "S2: retention's move was taken for the seek that had been asked for, and that one for nobody's",
    ),
    (3245, "S5: the judge began a stop's time at the operator's word, after the app had failed by itself"),
    (
        3734,
        "L1: a static member half way through a cooperative round left partitions to nobody, as Kafka does",
    ),
    (4985, "S3: two records at one offset of a topic made anew were taken for one"),
    (5039, "S2: the second of two seeks was taken for one that nobody had asked for"),
    (
        226760,
        "S1: what was handled after a second seek counted for nothing when the commit of the first one landed",
    ),
    (240496, "S2: a second seek was forgotten when the commit of the first one landed"),
    (105125, "S2: where a member that was frozen had begun was taken for where the group was by then"),
    (
        108969,
        "S2: an early acknowledgement covered an output whose refusal was known before the handler returned",
    ),
    (114018, "L1: the model wrote a generation down that nobody had been given shares of"),
    (237656, "S5: an early acknowledgement counted although what its record produced had been refused"),
    (303585, "L1: a world ended before it was known where a group that begins at the end had begun"),
    (300678, "S3: what was handled of a topic was compared with the keys of the one made anew in its place"),
    (9890, "L1: the model let a static member back in while the leader assigned, with nothing"),
    (40619, "S5: what compaction removed from under a member was not counted as in its hands"),
)
