"""Time and judge assignment: `python benchmarks/assign.py [--peers] [--large] [--fuzz N]`.

Each size: a fresh plan, one after a member left, and one after a member joined; wall time of the strategy, and of making
the form that clients take. Quality is that of the certificate: imbalance, and moves above the fewest. `--peers` runs the
sticky assignors of aiokafka, kafka-python, Kafka (Java) and, where there is a Go toolchain, of Sarama and franz-go on the
same groups, each for at most `--limit` seconds a plan. The best of three rounds is shown, but for the two Python peers:
one. Java and Go keep one process, so that they are warm. `--large` adds the million partitions. Peak memory is that of a process of its own.
"""

from __future__ import annotations

import argparse
import gc
import logging
import math
import multiprocessing
import random
import resource
import selectors
import shutil
import subprocess
import tempfile
import time
import warnings
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from headrace.assign import Claim, CooperativeSticky, Member, Plan, Sticky, certify, wire

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

Owned = dict[str, dict[str, list[int]]]

HERE = Path(__file__).parent
ROUNDS = 3


@dataclass(frozen=True)
class Size:
    """A group to plan for."""

    name: str
    topics: dict[str, int]
    subscriptions: list[list[str]]


def uniform(topics: int, partitions: int, members: int) -> Size:
    sizes = {f"topic-{n:04}": partitions for n in range(topics)}
    return Size(f"{topics} x {partitions}, {members} members", sizes, [list(sizes)] * members)


def halves() -> Size:
    sizes = {f"topic-{n:04}": 200 for n in range(100)}
    names = list(sizes)
    return Size(
        "100 x 200, 500 members, two halves",
        sizes,
        [names[:50] if n % 4 == 0 else names[50:] for n in range(500)],
    )


def odd(topics: int, partitions: int, members: int) -> Size:
    size = uniform(topics, partitions, members)
    return replace(
        size,
        name=size.name + ", one on one topic",
        subscriptions=[*size.subscriptions[:-1], list(size.topics)[:1]],
    )


def at_random() -> Size:
    chance = random.Random(1)  # noqa: S311  # for groups, not for secrets
    sizes = {f"topic-{n:04}": 200 for n in range(100)}
    names = list(sizes)
    return Size(
        "100 x 200, 500 members, at random",
        sizes,
        [chance.sample(names, chance.randint(1, 99)) for _ in range(500)],
    )


SMALL = (uniform(10, 10, 10), uniform(50, 40, 100), uniform(100, 100, 200), uniform(200, 200, 500))
DIFFERING = (odd(50, 40, 101), halves(), at_random())


class OfHeadrace:
    """Ours."""

    name = "headrace"

    def __init__(self, strategy: Sticky | CooperativeSticky | None = None) -> None:
        self._strategy = strategy or Sticky()

    def __call__(self, members: list[Member], topics: dict[str, int]) -> Owned:
        return self._strategy.assign(members, topics).assignments()


class OfAiokafka:
    """The sticky assignor that aiokafka has."""

    name = "aiokafka"

    def __init__(self) -> None:
        from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
        from aiokafka.coordinator.protocol import ConsumerProtocolMemberMetadata

        self._assign = StickyPartitionAssignor.assign
        self._said = ConsumerProtocolMemberMetadata

    def __call__(self, members: list[Member], topics: dict[str, int]) -> Owned:
        said = {
            m.id: self._said(0, list(m.topics), wire.encode_sticky(m.claim) if m.claim else b"")
            for m in members
        }
        told = self._assign(_Cluster(topics), said)
        return {name: {t: list(ps) for t, ps in one.assignment} for name, one in told.items()}


class OfKafkaPython:
    """The sticky assignor that kafka-python has."""

    name = "kafka-python"

    def __init__(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from kafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
            from kafka.coordinator.assignors.sticky.user_data import StickyAssignorUserData
            from kafka.protocol.consumer.metadata import ConsumerProtocolSubscription

        self._assignor: Any = StickyPartitionAssignor()
        self._user_data: Any = StickyAssignorUserData
        self._said: Any = ConsumerProtocolSubscription

    def __call__(self, members: list[Member], topics: dict[str, int]) -> Owned:
        joined: list[SimpleNamespace] = []
        for m in members:
            data = b""
            if m.claim:
                claimed = list(m.claim.owned.items())
                data = self._user_data(previous_assignment=claimed, generation=m.claim.generation).encode()
            said = self._said(version=0, topics=list(m.topics), user_data=data)
            joined.append(SimpleNamespace(member_id=m.id, metadata=said))
        told = self._assignor.assign(_Cluster(topics), joined)
        return {name: {t: list(ps) for t, ps in one.assigned_partitions} for name, one in told.items()}


class OfProcess:
    """An assignor of another language, in a process that is asked line by line."""

    def __init__(self, name: str, command: list[str]) -> None:
        self.name = name
        self._command = command
        self._process: subprocess.Popen[str] | None = None

    def __call__(self, members: list[Member], topics: dict[str, int]) -> Owned:
        found = self.timed(members, topics, 60.0, 1)
        if found is None:
            raise TimeoutError(self.name)
        return found[1]

    def timed(
        self, members: list[Member], topics: dict[str, int], limit_s: float, rounds: int = ROUNDS
    ) -> tuple[float, Owned] | None:
        """How long its best round took, and its plan. None: not within the limit. What it raises is a RuntimeError."""
        if self._process is None:
            self._process = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.writelines(_asked(members, topics, rounds))
        process.stdin.flush()
        with selectors.DefaultSelector() as ready:
            ready.register(process.stdout, selectors.EVENT_READ)
            if not ready.select(limit_s):
                self.end()
                return None
        names, spent = list(topics), 0.0
        owned: Owned = {member.id: {} for member in members}
        for line in process.stdout:
            what, *words = line.split()
            if what == "done":
                return spent, owned
            if what == "raised":
                assert process.stdout.readline() == "done\n"
                raise RuntimeError(" ".join(words))
            if what == "took":
                spent = float(words[0])
            else:
                mine = owned[words[0]]
                for word in words[1:]:
                    topic, _, partitions = word.partition(":")
                    mine.setdefault(names[int(topic)], []).extend(map(int, partitions.split(",")))
        raise RuntimeError(f"{self.name} ended")

    def end(self) -> None:
        """End the process; the next question starts another."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


def _asked(members: list[Member], topics: dict[str, int], rounds: int) -> list[str]:
    number = {name: str(at) for at, name in enumerate(topics)}
    lines = [f"topic {name} {partitions}\n" for name, partitions in topics.items()]
    numbers: dict[tuple[str, ...], int] = {}
    for member in members:
        subscription = tuple(member.topics)
        if subscription not in numbers:
            numbers[subscription] = len(numbers)
            lines.append(f"subscription {','.join(number[topic] for topic in subscription)}\n")
        data = wire.encode_sticky(member.claim).hex() if member.claim else ""
        lines.append(f"member {member.id} {numbers[subscription]} {data}\n")
    return [*lines, f"plan {rounds}\n"]


def others(built: str) -> list[OfProcess]:
    """Kafka's own in Java, and two in Go: as far as they can be run here."""
    found: list[OfProcess] = []
    jars = sorted((HERE.parent / ".tools").glob("kafka-*"))
    if jars and shutil.which("javac"):
        found.append(
            OfProcess("Kafka (Java)", ["java", "-cp", f"{jars[-1]}/*", str(HERE / "AssignJava.java")])
        )
    if shutil.which("go"):
        program = f"{built}/assign_go"
        subprocess.run(["go", "build", "-o", program, "."], cwd=HERE / "assign_go", check=True)
        found += [OfProcess(name, [program, name]) for name in ("franz-go", "sarama")]
    return found


class _Cluster:
    """What the peers ask of their cluster."""

    def __init__(self, topics: dict[str, int]) -> None:
        self._topics = topics

    def topics(self) -> set[str]:
        return set(self._topics)

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        return set(range(self._topics[topic])) if topic in self._topics else None


def named(size: Size) -> list[Member]:
    return [Member(f"member-{n:05}", topics) for n, topics in enumerate(size.subscriptions)]


def claiming(members: list[Member], owned: Owned) -> list[Member]:
    return [replace(m, claim=Claim(owned[m.id], 1) if m.id in owned else None) for m in members]


def as_plan(members: list[Member], topics: dict[str, int], owned: Owned) -> Plan:
    """Any assignor's answer in a form that the certificate reads."""
    blank = Sticky(balance="kip54").assign([], topics)
    names = sorted(member.id for member in members)
    number = {name: at for at, name in enumerate(names)}
    first_of = dict(zip(blank.topics, blank.firsts, strict=False))
    owners = [-1] * blank.firsts[-1]
    for name, mine in owned.items():
        for topic, partitions in mine.items():
            for partition in partitions:
                owners[first_of[topic] + partition] = number[name]
    return replace(blank, members=tuple(names), owners=tuple(owners))


def in_time(work: Callable[[], Owned], limit_s: float) -> tuple[float, float, Owned] | None:
    """Run in a process of its own, so that it can be ended. Wall time, time of CPU, and the plan."""
    here, there = multiprocessing.Pipe(duplex=False)

    def run(answer: Connection) -> None:
        began, began_cpu = time.perf_counter(), time.process_time()
        owned = work()
        answer.send((time.perf_counter() - began, time.process_time() - began_cpu, owned))

    process = multiprocessing.get_context("fork").Process(target=run, args=(there,))
    process.start()
    there.close()  # so that a peer that fails is not taken for a slow one
    try:
        return here.recv() if here.poll(limit_s) else None
    finally:
        process.kill()
        process.join()


def at_best(work: Callable[[], Owned]) -> tuple[float, float, Owned]:
    """As the processes of other languages are timed; and the least time of CPU, which a busy machine changes little."""
    best = cpu = math.inf
    owned: Owned = {}
    for _ in range(ROUNDS):
        gc.collect()
        began, began_cpu = time.perf_counter(), time.process_time()
        owned = work()
        best = min(best, time.perf_counter() - began)
        cpu = min(cpu, time.process_time() - began_cpu)
    return best, cpu, owned


def row(
    label: str,
    spent: float,
    members: list[Member],
    topics: dict[str, int],
    owned: Owned,
    more: str = "",
) -> None:
    began = time.perf_counter()
    proof = certify(as_plan(members, topics, owned), members, topics)
    judged = time.perf_counter() - began
    best = "?" if proof.minimum is None else f"{proof.moves - proof.minimum:+}"
    fair = "fairest" if proof.fairest else ("KIP-54" if proof.kip54 else "unbalanced")
    invalid = "" if proof.valid else f"  INVALID: {proof.problems[0]}"
    print(
        f"    {label:32}{spent:9.3f} s  moves {proof.moves:5} ({best} to fewest)  imbalance {proof.imbalance:3}  {fair}"
        f"  (judged in {judged:.2f} s){more}{invalid}"
    )


def compare(size: Size, peers: list[Any], limit_s: float) -> None:
    print(f"{size.name}:")
    members, topics = named(size), size.topics
    owned = OfHeadrace()(members, topics)
    groups = {
        "fresh": members,
        "one leaves": claiming(members, owned)[1:],
        "one joins": [*claiming(members, owned), Member("newcomer", size.subscriptions[0])],
    }
    late: set[str] = set()
    for case, group in groups.items():
        spent, cpu, ours = at_best(partial(OfHeadrace(), group, topics))
        row(f"headrace, {case}", spent, group, topics, ours, f"  ({cpu:.3f} s of CPU)")
        for peer in [one for one in peers if one.name not in late]:
            label = f"{peer.name}, {case}"
            found: tuple[float, float | None, Owned] | None
            if isinstance(peer, OfProcess):
                asked = peer.timed(group, topics, limit_s)
                found = asked and (asked[0], None, asked[1])
            else:
                found = in_time(partial(peer, group, topics), limit_s)
            if found is None:
                late.add(peer.name)
                print(f"    {label}: not within {limit_s:g} s, and not asked again")
            else:
                spent, used, theirs = found
                row(label, spent, group, topics, theirs, "" if used is None else f"  ({used:.3f} s of CPU)")


def large(peers: list[Any], limit_s: float) -> None:
    """A million partitions. Only Kafka's own and franz-go's are asked: the others need minutes for a twentieth of it."""
    compare(uniform(2_000, 500, 2_000), peers, limit_s)
    compare(odd(500, 2_000, 2_000), peers, limit_s)


def large_memory() -> None:
    size = uniform(2_000, 500, 2_000)
    members = named(size)
    owned = OfHeadrace()(members, size.topics)
    OfHeadrace()(claiming(members, owned)[1:], size.topics)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"1 million partitions, 2,000 members, fresh and after one left: peak memory {peak:.0f} MiB")


def fuzz(assignors: list[Any], groups: int) -> None:
    """Groups in which one member comes back with other topics, and claims whatever it likes at an older generation."""
    chance = random.Random(11)  # noqa: S311  # for groups, not for secrets
    found = {
        one.name: dict.fromkeys(("invalid", "raised", "not fairest", "moves over the fewest"), 0)
        for one in assignors
    }
    for _ in range(groups):
        topics = {f"t{n}": chance.randint(1, 6) for n in range(chance.randint(2, 5))}

        def some(topics: dict[str, int] = topics) -> list[str]:
            return chance.sample(sorted(topics), chance.randint(1, len(topics)))

        members = [Member(f"m{n}", some()) for n in range(chance.randint(2, 7))]
        members = claiming(members, OfHeadrace()(members, topics))
        stale = {topic: chance.sample(range(size), chance.randint(0, size)) for topic, size in topics.items()}
        zombie = chance.randrange(len(members))
        members[zombie] = Member(members[zombie].id, some(), Claim({t: p for t, p in stale.items() if p}, 0))
        for one in assignors:
            try:
                owned = one(members, topics)
            except Exception:  # noqa: BLE001 - counted, whatever it is
                found[one.name]["raised"] += 1
                continue
            proof = certify(as_plan(members, topics, owned), members, topics)
            found[one.name]["invalid"] += not proof.valid
            found[one.name]["not fairest"] += proof.valid and not proof.fairest
            found[one.name]["moves over the fewest"] += proof.moves - (
                proof.moves if proof.minimum is None else proof.minimum
            )
    for name, counts in found.items():
        print(
            f"{groups} groups with a stale claim, {name}: "
            + ", ".join(f"{what} {n}" for what, n in counts.items())
        )


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--peers", action="store_true")
    asked.add_argument("--large", action="store_true")
    asked.add_argument("--only-large", action="store_true")
    asked.add_argument("--limit", type=float, default=90, help="seconds for one plan of a peer")
    asked.add_argument(
        "--fuzz", type=int, default=0, help="so many small groups with a stale claim; nothing else"
    )
    given = asked.parse_args()
    logging.disable(logging.CRITICAL)  # the peers tell of each double claim
    with tempfile.TemporaryDirectory() as built:
        processes = others(built) if given.peers else []
        peers: list[Any] = [OfAiokafka(), OfKafkaPython(), *processes] if given.peers else []
        try:
            run(given, peers)
        finally:
            for process in processes:
                process.end()


def run(given: argparse.Namespace, peers: list[Any]) -> None:
    """What was asked for on the command line."""
    if given.fuzz:
        fuzz([OfHeadrace(), *peers], given.fuzz)
        return
    for size in () if given.only_large else (*SMALL, *DIFFERING):
        compare(size, peers, given.limit)
    if given.large or given.only_large:
        process = multiprocessing.get_context("spawn").Process(target=large_memory)
        process.start()
        process.join()
        large([one for one in peers if one.name in {"Kafka (Java)", "franz-go"}], given.limit)


if __name__ == "__main__":
    main()
