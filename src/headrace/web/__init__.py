"""What an app says of itself, over HTTP or in files: health for probes, metrics, snapshots, a dashboard.

Everything here reads what the owner published. Invariant: nothing here holds what the owner thread waits for, and nothing
that the owner or its client does holds up an answer.
"""

from headrace.web.files import HealthFiles
from headrace.web.remote import serve_dashboard
from headrace.web.server import Server, serve

__all__ = ["HealthFiles", "Server", "serve", "serve_dashboard"]
