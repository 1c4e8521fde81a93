"""Assignment of partitions to members: pure strategies, and proof that their plans are as good as can be.

Decides which names are public. Every strategy is a value whose `assign(members, topics, previous=None)` returns a
`Plan` and changes nothing: one strategy may serve any number of groups and threads at once.
"""

from __future__ import annotations

from headrace.assign.certificate import Certificate, certify
from headrace.assign.memoryless import Range, RoundRobin
from headrace.assign.model import Claim, Member, Move, Plan, Topic
from headrace.assign.sticky import CooperativeSticky, Sticky
from headrace.assign.weighted import Weighing, Weighted, weighed

__all__ = [
    "Certificate",
    "Claim",
    "CooperativeSticky",
    "Member",
    "Move",
    "Plan",
    "Range",
    "RoundRobin",
    "Sticky",
    "Topic",
    "Weighing",
    "Weighted",
    "certify",
    "weighed",
]
