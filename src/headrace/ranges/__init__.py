"""Ranges of Kafka's offsets, read once and exactly. Importing it loads neither the client library nor Arrow."""

from headrace.ranges.bounds import Committed, Last, Loss
from headrace.ranges.planning import OffsetRange, preferred_worker, split
from headrace.ranges.progress import PartitionProgress, Progress
from headrace.ranges.reading import find_ranges, read
from headrace.ranges.records import StoredRecord
from headrace.ranges.resolving import Resolved
from headrace.ranges.results import Batches, Reading, Records

__all__ = [
    "Batches",
    "Committed",
    "Last",
    "Loss",
    "OffsetRange",
    "PartitionProgress",
    "Progress",
    "Reading",
    "Records",
    "Resolved",
    "StoredRecord",
    "find_ranges",
    "preferred_worker",
    "read",
    "split",
]
