"""An event loop of our own for `async def` handlers, on a daemon thread.

Refuses to know what runs on it. Invariant: `stop` returns within its budget, whatever the handlers do; what does not
end is abandoned with its thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading


class HandlerLoop:
    """A daemon thread with an event loop. `start` and `stop` are for one thread, not the loop's own."""

    def __init__(self, name: str = "headrace-loop") -> None:
        self.name = name
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._ready = threading.Event()
        # The loop's thread writes it once: what the loop ended with, if it was not `stop`.
        self.error: BaseException | None = None

    def start(self) -> None:
        """Start the thread and wait until its loop runs."""
        self._thread.start()
        self._ready.wait()

    def stop(self, timeout_s: float) -> bool:
        """Cancel what runs on the loop, stop and close it. False if it did not end in time and was left behind."""
        if not self._thread.is_alive():
            if not self.loop.is_closed():
                self.loop.close()
            return True
        with contextlib.suppress(RuntimeError):  # It ended and closed its loop just now.
            self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.call_soon(self._ready.set)
        try:
            self.loop.run_forever()
            self._cancel_all()
        except BaseException as error:
            self.error = error
        finally:
            asyncio.set_event_loop(None)
            self.loop.close()

    def _cancel_all(self) -> None:
        """End what handlers left behind, as `asyncio.run` does; `stop` bounds how long it is waited for."""
        left = asyncio.all_tasks(self.loop)
        for task in left:
            task.cancel()
        if left:
            self.loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
