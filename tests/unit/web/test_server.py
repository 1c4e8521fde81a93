"""The server itself: what it serves, to whom, and how it begins and ends."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from headrace import App, ConfigError
from headrace.errors import ExtraMissing
from headrace.web import serve
from tests.unit.runtime.stage import playing
from tests.unit.web.asking import ask

if TYPE_CHECKING:
    from collections.abc import Sequence


def fresh() -> App:
    """An app that was not started."""
    return App("memory", "group")


@pytest.mark.slow
def test_metrics_are_what_prometheus_reads() -> None:
    with playing(lambda _record: None) as stage, serve(stage.app, 0) as server:
        stage.produce(7)
        stage.until(lambda: stage.app.snapshot().engine.counters.finished == 7)
        answer = ask(server, "/metrics")
        families = {one.name: one for one in text_string_to_metric_families(answer.text)}
        (finished,) = families["headrace_records_finished"].samples
        assert (finished.labels, finished.value) == ({"group": "group"}, 7.0)
        assert "headrace_topic_lag_records" not in families, "nobody asked a broker: unknown, and never 0"


@pytest.mark.slow
def test_the_snapshot_is_the_apps() -> None:
    with playing(lambda _record: None) as stage, serve(stage.app, 0) as server:
        stage.produce(3, partition=1)
        stage.until(lambda: stage.app.snapshot().engine.counters.finished == 3)
        found = ask(server, "/snapshot.json").json
        assert (found["group_id"], found["health"]["verdict"]) == ("group", "ok")
        parts = {one["partition"]: one for one in found["snapshot"]["engine"]["partitions"]}
        assert (parts[1]["delivered"], parts[1]["finished"], parts[1]["committable"]) == (3, 3, 3)
        assert found["offsets"][0]["lag"] == {"unknown": "the broker has not been asked yet"}


@pytest.mark.parametrize(
    "host", ["127.0.0.1:8080", "localhost", "LOCALHOST:1", "[::1]:80", "10.2.3.4", "billing.svc"]
)
def test_who_asks_by_address_or_by_a_name_of_ours_is_answered(host: str) -> None:
    with serve(fresh(), 0, hosts=["billing.svc"]) as server:
        assert ask(server, "/health/live", headers={"Host": host}).status == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example", ""]
)
def test_a_foreign_host_is_refused(host: str) -> None:
    """DNS rebinding: a name of somebody else's that resolves to our address."""
    with serve(fresh(), 0) as server:
        for path in ("/health/live", "/metrics", "/snapshot.json"):
            answer = ask(server, path, headers={"Host": host})
            assert answer.status == 421
            assert "verdict" not in answer.text


def test_answers_tell_browsers_to_trust_nothing_else() -> None:
    with serve(fresh(), 0) as server:
        headers = ask(server, "/health/live").headers
        assert headers["content-security-policy"].startswith("default-src 'none'")
        assert headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in headers
        assert "server" not in headers


def test_a_port_that_is_taken_is_told_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        serve(fresh(), taken.getsockname()[1])


def test_closing_frees_the_port_and_ends_the_thread() -> None:
    server = serve(fresh(), 0)
    assert ask(server, "/health/live").status == 200
    port = server.port
    server.close()
    server.close()
    assert not [one for one in threading.enumerate() if one.name == "headrace-web"]
    serve(fresh(), port).close()


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"port": -1}, "port"),
        ({"port": "80"}, "port"),
        ({"host": ""}, "host"),
        ({"hosts": "billing"}, "hosts"),
    ],
)
def test_a_setting_that_cannot_be_meant(settings: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as error:
        serve(fresh(), **settings)
    assert error.value.key == key


@pytest.mark.parametrize("missing", ["starlette", "uvicorn", "prometheus_client"])
def test_what_is_not_installed_is_named(missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib
    import importlib.util

    find, load = importlib.util.find_spec, importlib.import_module

    def found(name: str) -> Any:
        return None if name == missing else find(name)

    def imported(name: str, *rest: Any) -> Any:
        if name == missing:
            raise ImportError(name)
        return load(name, *rest)

    monkeypatch.setattr(importlib.util, "find_spec", found)
    monkeypatch.setattr(importlib, "import_module", imported)
    with pytest.raises(ExtraMissing, match=r"headrace\[web\]"):
        serve(fresh(), 0)


def test_it_listens_where_it_was_told() -> None:
    hosts: Sequence[str] = ["127.0.0.1", "0.0.0.0"]  # noqa: S104 - closed again at once
    for host in hosts:
        with serve(fresh(), 0, host=host) as server:
            assert server.url == f"http://127.0.0.1:{server.port}/"
            assert ask(server, "/health/live").status == 200
