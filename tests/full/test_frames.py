"""pandas, Polars and DuckDB on what `headrace.read` gives, in an environment of their own: the code of docs/howto/frames.md.

Together they are 350 MB: too much for every test run. Each block of the page runs as it stands, against the embedded
broker; only the broker's address is put in.
"""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from headrace.cli import execute
from headrace.cli.exits import Exit
from headrace.testing import MockBroker

pytestmark = pytest.mark.timeout(300)

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "howto" / "frames.md"
INSTALL_S = 240
RUN_S = 120


@pytest.fixture(scope="module")
def interpreter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python with requirements/frames.lock, and with all that this one has."""
    folder = tmp_path_factory.mktemp("frames")
    python = folder / "bin" / "python"
    lock = str(ROOT / "requirements" / "frames.lock")
    uv = [sys.executable, "-m", "uv"]
    for command in (
        [*uv, "venv", "-q", "--allow-existing", "--python", sys.executable, str(folder)],
        [*uv, "pip", "install", "-q", "--python", str(python), "--require-hashes", "-r", lock],
    ):
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=INSTALL_S)
        assert done.returncode == 0, done.stderr
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "beside.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
    return python


def test_the_code_of_the_page_runs(interpreter: Path, tmp_path: Path) -> None:
    blocks = re.findall(
        r"^```python no-run\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    assert len(blocks) == 3
    with MockBroker(topics={"orders": 1}) as broker:
        broker.produce("orders", [("anna", "7"), ("bert", "12"), ("anna", "3")])
        target = str(tmp_path / "by-partition")
        export = ["read", "orders", "--to", target, "--by", "partition", "-q", "-b", broker.bootstrap_servers]
        assert execute(export) is Exit.OK
        for block in blocks:
            assert "assert " in block
            done = subprocess.run(
                [
                    str(interpreter),
                    "-W",
                    "error::FutureWarning",
                    "-c",
                    block.replace("localhost:9092", broker.bootstrap_servers),
                ],
                check=False,
                capture_output=True,
                text=True,
                timeout=RUN_S,
                cwd=tmp_path,
            )
            assert done.returncode == 0, f"{block}\n{done.stderr}"
