"""Health in files: young while the answer is yes."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from headrace import App
from headrace.web import HealthFiles
from tests.unit.runtime.stage import playing

if TYPE_CHECKING:
    from pathlib import Path


def young(path: Path) -> bool:
    """What the probe of the documentation asks."""
    command = ["find", str(path), "-newermt", "-15 seconds"]
    return bool(subprocess.run(command, capture_output=True, check=True, text=True).stdout)


def age_s(path: Path) -> float:
    return time.time() - path.stat().st_mtime


@pytest.mark.slow
def test_files_grow_old_while_stuck_and_young_again(tmp_path: Path) -> None:
    release = threading.Event()

    def hang(_record: Any) -> None:
        release.wait(20)

    with playing(hang) as stage, HealthFiles(stage.app, tmp_path / "health", every_s=0.05) as files:
        live, ready = tmp_path / "health" / "live", tmp_path / "health" / "ready"
        stage.until(lambda: young(live) and young(ready))
        stage.produce()
        stage.until(lambda: not young(live))
        assert age_s(live) > 1e9
        stage.until(lambda: "partition_stuck" in live.read_text())
        assert json.loads(live.read_text())["live"] is False
        release.set()
        stage.until(lambda: young(live) and young(ready))
        files.close()
        assert list(live.parent.iterdir()) == []


def test_before_the_start_it_is_live_and_not_ready(tmp_path: Path) -> None:
    with HealthFiles(App("memory", "group"), tmp_path):
        assert (young(tmp_path / "live"), young(tmp_path / "ready")) == (True, False)


def test_a_directory_that_cannot_be_written_is_told_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="exist"):
        HealthFiles(App("memory", "group"), tmp_path / "file")


@pytest.mark.slow
def test_a_disk_that_refuses_makes_files_old_and_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with playing(lambda _record: None) as stage, HealthFiles(stage.app, tmp_path / "here", every_s=0.02):
        stage.green()
        (tmp_path / "here").rename(tmp_path / "away")
        stage.until(lambda: "cannot be written" in caplog.text)
        (tmp_path / "away").rename(tmp_path / "here")
        stage.until(lambda: age_s(tmp_path / "here" / "live") < 1.0)
    assert caplog.text.count("cannot be written") == 1
