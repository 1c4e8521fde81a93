"""Silence for commands that draw: the runtime's log would tear their output apart."""

from __future__ import annotations

import logging
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator


@contextmanager
def quiet(*, debug: bool, who: str) -> Generator[None]:
    """No log of the runtime within the block; with `debug` all of it, on stderr, as the words of `who`."""
    logger = logging.getLogger("headrace")
    if debug:
        logging.basicConfig(
            level=logging.INFO, stream=sys.stderr, format=f"%(relativeCreated)d {who}: %(message)s"
        )
        yield
        return
    before, logger.propagate = logger.propagate, False
    silence = logging.NullHandler()
    logger.addHandler(silence)
    try:
        yield
    finally:
        logger.removeHandler(silence)
        logger.propagate = before
