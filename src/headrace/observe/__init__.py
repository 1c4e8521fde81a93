"""Watching an app: metrics, filters, reporters, broker offsets; and the guard for other people's consumers.

Everything here reads immutable snapshots, or asks Kafka on a connection of its own. Invariant: nothing here holds what
the owner thread waits for.
"""

from headrace.observe.ownership import guard

__all__ = ["guard"]
