"""`headrace plan [GROUP]`: what the next rebalance of a group will do, before it does it.

Decides where a group is read from and how a forecast is shown; `headrace.assign` makes it. Invariant: where the forecast
may differ from what the group's own assignor will do, the command says so and why.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headrace.cli.connection import (
    DEFAULT_BOOTSTRAP,
    DEFAULT_TIMEOUT_S,
    Bootstrap,
    Librdkafka,
    TimeoutS,
    connection,
)
from headrace.cli.debugging import Debug
from headrace.cli.exits import Exit, Unusable
from headrace.cli.texts import columns, printable
from headrace.errors import GroupInvalid, HeadraceError

if TYPE_CHECKING:
    from headrace._client.settings import ConnectionSettings
    from headrace.assign import Topic
    from headrace.assign.forecast import Forecast, Situation
    from headrace.cli.loads import Loads

HANDOVERS_SHOWN_MAX = 20
BAR_MAX = 60
SAME_AS_KAFKA = {"range", "roundrobin"}
WEIGHTED = "headrace-weighted"


def plan(
    group: Annotated[str | None, typer.Argument(metavar="GROUP", show_default=False)] = None,
    source: Annotated[
        Path | None,
        typer.Option("--from", metavar="FILE", help="Read the group from JSON, not from a broker."),
    ] = None,
    add_members: Annotated[int, typer.Option("--add-members", min=0, help="So many members join.")] = 0,
    remove: Annotated[
        list[str] | None, typer.Option("--remove", metavar="MEMBER", help="This member leaves; repeatable.")
    ] = None,
    add_partitions: Annotated[
        list[str] | None,
        typer.Option("--add-partitions", metavar="TOPIC=COUNT", help="A topic grows to so many; repeatable."),
    ] = None,
    strategy: Annotated[
        str | None, typer.Option("--strategy", help="Plan with this assignor, not with the group's own.")
    ] = None,
    rate_over_s: Annotated[
        float,
        typer.Option(
            "--rate-over",
            min=0,
            max=600,
            metavar="SECONDS",
            help="Watch so long how fast each partition grows.",
        ),
    ] = 0.0,
    picture: Annotated[
        Path | None, typer.Option("--svg", metavar="FILE", help="Write a picture of the moves.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The forecast as JSON.")] = False,
    bootstrap_servers: Bootstrap = DEFAULT_BOOTSTRAP,
    librdkafka: Librdkafka = None,
    timeout_s: TimeoutS = DEFAULT_TIMEOUT_S,
    debug: Debug = False,  # noqa: ARG001 - noted by its callback
) -> Exit:
    """Forecast the next rebalance of a group: who owns what, what moves, what pauses."""
    from headrace.assign.drawing import svg  # noqa: PLC0415 - not every command plans
    from headrace.assign.forecast import forecast, strategy_named  # noqa: PLC0415

    if (group is None) == (source is None):
        raise Unusable("name a group, or a file with --from")
    group_read = (
        _from_file(source)
        if source is not None
        else _from_broker(str(group), connection(bootstrap_servers, librdkafka), timeout_s, rate_over_s)
    )
    now, doubts, name = group_read.now, list(group_read.doubts), strategy or group_read.assignor
    if name == WEIGHTED:
        doubts.append("loads change: a rebalance at another time weighs other ones")
    elif name not in SAME_AS_KAFKA:
        doubts.append(
            "loads and moves are the best there are; Kafka's own assignor may move more, or other partitions"
        )
    if add_members and name in SAME_AS_KAFKA:
        doubts.append("this assignor orders members by ids, and those of new members are not known")
    try:
        then = now.changed(
            add_members=add_members, remove=remove or [], partitions=_counts(add_partitions or [])
        )
        found = forecast(now, then, strategy_named(name))
    except GroupInvalid as invalid:
        raise Unusable(str(invalid)) from invalid
    if picture is not None:
        picture.write_text(svg(found), encoding="utf-8")
    told = replace(group_read, doubts=tuple(doubts))
    typer.echo(json.dumps(_as_json(name, told, found)) if as_json else _as_text(name, told, found))
    return Exit.OK


@dataclass(frozen=True, slots=True)
class _Group:
    """A group as it was read. doubts: why a forecast of it is not exact. notes: what else is not known."""

    assignor: str
    now: Situation
    loads: tuple[Loads, ...]
    doubts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def _from_broker(group: str, settings: ConnectionSettings, timeout_s: float, rate_over_s: float) -> _Group:
    """The group as its coordinator describes it. Subscriptions are not told: each member counts as reading what all do."""
    from headrace._client.admin import Observer  # noqa: PLC0415 - loads the client library
    from headrace._client.inspection import Inspector  # noqa: PLC0415 - with it
    from headrace.assign import Claim, Member  # noqa: PLC0415 - with it
    from headrace.assign.forecast import Situation  # noqa: PLC0415 - with it
    from headrace.cli.loads import measured, weighing  # noqa: PLC0415 - with it

    inspector = Inspector(settings)
    found = inspector.owners(group, timeout_s)
    if found is None:
        raise Unusable(
            f"no broker described group {group} within {timeout_s:g} s: check address, network and rights"
        )
    if not found.owned:
        raise Unusable(f"group {group} has no members; plan from a file with --from")
    named = sorted({topic for owned in found.owned.values() for topic in owned})
    known = inspector.topics(timeout_s)
    sizes = {topic: known[topic].partitions for topic in named if topic in known}
    loads: list[Loads] = []
    notes: list[str] = []
    try:
        loads = measured(Observer(settings), group, sorted(sizes), timeout_s, rate_over_s)
    except HeadraceError as error:
        notes.append(f"lag is not known: {error}")
    return _Group(
        found.assignor,
        Situation(
            tuple(Member(name, named, Claim(owned)) for name, owned in sorted(found.owned.items())),
            weighing(sizes, loads),
        ),
        tuple(loads),
        (
            "brokers do not tell subscriptions: every member is taken to read every topic that the group reads",
        ),
        tuple(notes),
    )


def _from_file(path: Path) -> _Group:
    from headrace.assign import Claim, Member, Topic  # noqa: PLC0415 - not every command plans
    from headrace.assign.forecast import Situation  # noqa: PLC0415
    from headrace.cli.loads import told as loads_told  # noqa: PLC0415

    try:
        told: Any = json.loads(path.read_text(encoding="utf-8"))
        topics = {
            str(name): int(given) if isinstance(given, int) else Topic(**given)
            for name, given in told["topics"].items()
        }
        members = tuple(
            Member(
                str(one["id"]),
                [str(topic) for topic in one.get("topics", topics)],
                Claim({str(t): [int(p) for p in ps] for t, ps in one.get("owned", {}).items()}),
                one.get("rack"),
                float(one.get("capacity", 1.0)),
            )
            for one in told["members"]
        )
        assignor = str(told.get("assignor", "cooperative-sticky"))
    except OSError as error:
        raise Unusable(f"{path} cannot be read: {error.strerror}") from error
    except GroupInvalid as error:
        raise Unusable(f"{path}: {error}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Unusable(f"{path} is not a group as `headrace plan` reads it: {error!r}") from error
    return _Group(assignor, Situation(members, topics), tuple(loads_told(topics)))


def _counts(written: list[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for one in written:
        parts = re.fullmatch(r"([^=]+)=(\d{1,7})", one)
        if parts is None:
            raise Unusable("--add-partitions takes topic=count, such as orders=64")
        counts[parts[1]] = int(parts[2])
    return counts


def _as_json(name: str, group: _Group, found: Forecast) -> dict[str, Any]:
    """What stands under topics and members is the group as it is: `--from` reads it."""
    return {
        "assignor": name,
        "topics": {topic: _topic_as_json(given) for topic, given in group.now.topics.items()},
        "members": [
            {"id": member.id, "topics": list(member.topics), "owned": found.before[member.id]}
            | ({"rack": member.rack} if member.rack is not None else {})
            | ({"capacity": member.capacity} if member.capacity != 1 else {})
            for member in group.now.members
        ],
        "after": found.after,
        "handovers": [one._asdict() for one in found.handovers],
        "imbalance": {"before": found.imbalance_before, "after": found.imbalance_after},
        "loads": {
            one.what: {"before": one.of(found.before), "after": one.of(found.after)} for one in group.loads
        },
        "paused": {"eager": found.paused_eager, "cooperative": found.paused_cooperative},
        "rounds": {"eager": 1, "cooperative": found.rounds_cooperative},
        "exact": not group.doubts,
        "doubts": list(group.doubts),
        "notes": list(group.notes),
    }


def _topic_as_json(given: int | Topic) -> Any:
    if isinstance(given, int):
        return given
    told: dict[str, Any] = {"partitions": given.partitions}
    if given.racks is not None:
        told["racks"] = [sorted(racks) for racks in given.racks]
    if given.loads is not None:
        told["loads"] = list(given.loads)
    return told


def _as_text(name: str, group: _Group, found: Forecast) -> str:
    lines = [f"assignor {printable(name.encode())}: " + ("exact" if not group.doubts else "approximate")]
    lines += [f"  since {doubt}" for doubt in group.doubts]
    lines += [f"  {note}" for note in group.notes]
    names = sorted(found.before.keys() | found.after.keys())
    gives = dict.fromkeys(names, 0)
    takes = dict.fromkeys(names, 0)
    for one in found.handovers:
        if one.source is not None:
            gives[one.source] += 1
        if one.target is not None:
            takes[one.target] += 1
    had = {member: sum(map(len, found.before.get(member, {}).values())) for member in names}
    has = {member: sum(map(len, found.after.get(member, {}).values())) for member in names}
    most = max([*had.values(), *has.values(), 1])
    sums = [one.of(shares) for one in group.loads for shares in (found.before, found.after)]
    titles = [f"{one.what} {when}" for one in group.loads for when in ("now", "then")]
    rows = [
        (
            printable(member.encode(), 40),
            str(had[member]) if member in found.before else "-",
            str(has[member]) if member in found.after else "-",
            gives[member],
            takes[member],
            *(f"{one[member]:,.0f}" if member in one else "-" for one in sums),
            _bar(had[member] - gives[member], gives[member], takes[member], most),
        )
        for member in names
    ]
    head = ("member", "now", "then", "gives", "takes", *titles, "# keeps  - gives  + takes")
    lines += ["", columns(head, rows), ""]
    for topic, partition, source, target in found.handovers[:HANDOVERS_SHOWN_MAX]:
        lines.append(f"{printable(topic.encode())}-{partition}  {source or 'nobody'} -> {target or 'nobody'}")
    if len(found.handovers) > HANDOVERS_SHOWN_MAX:
        lines.append(f"and {len(found.handovers) - HANDOVERS_SHOWN_MAX} more; --json tells all")
    lines += [
        f"handed over {len(found.handovers)}; imbalance {found.imbalance_before} now, {found.imbalance_after} then",
        f"eager: {found.paused_eager} partitions pause, for one round",
        f"cooperative: {found.paused_cooperative} partitions pause, for {found.rounds_cooperative} round(s)",
    ]
    return "\n".join(lines)


def _bar(keeps: int, gives: int, takes: int, most: int) -> str:
    """One character a partition, fewer where that is too long; at least one for whatever there is."""
    scale = min(1.0, BAR_MAX / (2 * most))
    return "".join(
        mark * (max(1, round(count * scale)) if count else 0)
        for mark, count in zip("#-+", (keeps, gives, takes), strict=True)
    )
