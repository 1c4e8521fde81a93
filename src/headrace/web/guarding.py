"""Who may ask: the `Host` that a request names, and the token that an action needs.

Decides which requests are refused before anything looks at them. Invariant: a page of another site can neither read what
is served (its name is not one of ours, whatever address it resolves to) nor act (it does not know the token, and a browser
sends none by itself).
"""

from __future__ import annotations

import hmac
import ipaddress
from typing import TYPE_CHECKING

from headrace.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, MutableMapping
    from typing import Any

    Scope = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
    Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
    Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]

TOKEN_CHARS_MIN = 16
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)
REFUSAL = b"This Host is not served. Name it in hosts=[...], or ask by address.\n"


class Guard:
    """ASGI middleware: refuses foreign hosts, and says to browsers what a page of ours may do."""

    def __init__(self, inner: Asgi, hosts: Iterable[str]) -> None:
        self._inner = inner
        self._hosts = frozenset(host.lower() for host in hosts) | {"localhost"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or hand it on."""
        if scope["type"] == "lifespan":
            await self._inner(scope, receive, send)
            return
        assert scope["type"] == "http", "the server is told to do no websockets"

        async def send_with_headers(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *HEADERS]
            await send(message)

        named = [value for name, value in scope["headers"] if name == b"host"]
        if len(named) == 1 and self.serves(named[0].decode("latin-1")):
            await self._inner(scope, receive, send_with_headers)
            return
        start = {"type": "http.response.start", "status": 421, "headers": [(b"content-type", b"text/plain")]}
        await send_with_headers(start)
        await send({"type": "http.response.body", "body": REFUSAL})

    def serves(self, host: str) -> bool:
        """Whether a request with this `Host` is ours. An address is: a site that lures a browser here has a name."""
        name = host.rpartition("]")[0].removeprefix("[") if host.startswith("[") else host.partition(":")[0]
        if name.lower() in self._hosts:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


def require_token(token: str | None) -> None:
    """Raise `ConfigError` for a token that could be guessed. The error does not show it."""
    if token is None:
        return
    if not isinstance(token, str) or len(token) < TOKEN_CHARS_MIN or not token.isascii():
        raise ConfigError(
            "actions_token",
            "(not shown)",
            f"at least {TOKEN_CHARS_MIN} ASCII characters, such as secrets.token_urlsafe() gives",
        )


def holds_token(authorization: str | None, token: str) -> bool:
    """Whether a request's `Authorization` is `Bearer` and this token; takes as long either way."""
    given = (authorization or "").encode("utf-8", "replace")
    return hmac.compare_digest(given, b"Bearer " + token.encode())
