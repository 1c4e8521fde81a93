"""Checkers of the promises in `docs/guarantees.md`: a judge that is fed with a simulation's history.

It shares no code with the core, so that both would have to be wrong in the same way.
"""

from headrace.testing.invariants.judge import Judge
from headrace.testing.invariants.rules import Bounds, Promise, PromiseBroken, TopicRules, Violation

__all__ = ["Bounds", "Judge", "Promise", "PromiseBroken", "TopicRules", "Violation"]
