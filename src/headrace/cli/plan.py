"""`headrace plan [GROUP]`: what the next rebalance of a group will do, before it does it.

Decides where a group is read from and how a forecast is shown; `headrace.assign` makes it. Invariant: where the forecast
may differ from what the group's own assignor will do, the command says so and why.
"""

from __future__ import annotations

import json
import re
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
from headrace.errors import GroupInvalid

if TYPE_CHECKING:
    from headrace.assign.forecast import Forecast, Situation

HANDOVERS_SHOWN_MAX = 20
BAR_MAX = 60
SAME_AS_KAFKA = {"range", "roundrobin"}


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
    if source is not None:
        assignor, now, doubts = _from_file(source)
    else:
        assignor, now, doubts = _from_broker(str(group), connection(bootstrap_servers, librdkafka), timeout_s)
    name = strategy or assignor
    if name not in SAME_AS_KAFKA:
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
    typer.echo(json.dumps(_as_json(name, now, found, doubts)) if as_json else _as_text(name, found, doubts))
    return Exit.OK


def _from_broker(group: str, settings: Any, timeout_s: float) -> tuple[str, Situation, list[str]]:
    """The group as its coordinator describes it. Subscriptions are not told: each member counts as reading what all do."""
    from headrace._client.inspection import Inspector  # noqa: PLC0415 - loads the client library
    from headrace.assign import Claim, Member  # noqa: PLC0415 - with it
    from headrace.assign.forecast import Situation  # noqa: PLC0415 - with it

    inspector = Inspector(settings)
    found = inspector.owners(group, timeout_s)
    if found is None:
        raise Unusable(
            f"no broker described group {group} within {timeout_s:g} s: check address, network and rights"
        )
    if not found.owned:
        raise Unusable(f"group {group} has no members; plan from a file with --from")
    named = sorted({topic for owned in found.owned.values() for topic in owned})
    sizes = inspector.topics(timeout_s)
    members = tuple(Member(name, named, Claim(owned)) for name, owned in sorted(found.owned.items()))
    doubts = [
        "brokers do not tell subscriptions: every member is taken to read every topic that the group reads"
    ]
    return found.assignor, Situation(members, {t: sizes[t].partitions for t in named if t in sizes}), doubts


def _from_file(path: Path) -> tuple[str, Situation, list[str]]:
    from headrace.assign import Claim, Member, Topic  # noqa: PLC0415 - not every command plans
    from headrace.assign.forecast import Situation  # noqa: PLC0415

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
    return assignor, Situation(members, topics), []


def _counts(written: list[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for one in written:
        parts = re.fullmatch(r"([^=]+)=(\d{1,7})", one)
        if parts is None:
            raise Unusable("--add-partitions takes topic=count, such as orders=64")
        counts[parts[1]] = int(parts[2])
    return counts


def _as_json(name: str, now: Situation, found: Forecast, doubts: list[str]) -> dict[str, Any]:
    """What stands under topics and members is the group as it is: `--from` reads it."""
    topics = {
        topic: given if isinstance(given, int) else given.partitions for topic, given in now.topics.items()
    }
    return {
        "assignor": name,
        "topics": topics,
        "members": [
            {"id": member.id, "topics": list(member.topics), "owned": found.before[member.id]}
            for member in now.members
        ],
        "after": found.after,
        "handovers": [one._asdict() for one in found.handovers],
        "imbalance": {"before": found.imbalance_before, "after": found.imbalance_after},
        "paused": {"eager": found.paused_eager, "cooperative": found.paused_cooperative},
        "rounds": {"eager": 1, "cooperative": found.rounds_cooperative},
        "exact": not doubts,
        "doubts": doubts,
    }


def _as_text(name: str, found: Forecast, doubts: list[str]) -> str:
    lines = [f"assignor {printable(name.encode())}: " + ("exact" if not doubts else "approximate")]
    lines += [f"  since {doubt}" for doubt in doubts]
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
    rows = [
        (
            printable(member.encode(), 40),
            str(had[member]) if member in found.before else "-",
            str(has[member]) if member in found.after else "-",
            gives[member],
            takes[member],
            _bar(had[member] - gives[member], gives[member], takes[member], most),
        )
        for member in names
    ]
    lines += ["", columns(("member", "now", "then", "gives", "takes", "# keeps  - gives  + takes"), rows), ""]
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
