"""`bce-auth-v1` in a few lines, for what the SDKs would never send."""

import hashlib
import hmac
from datetime import UTC, datetime
from urllib.parse import quote, unquote_to_bytes


def _spelled(text, safe=""):
    return quote(unquote_to_bytes(text), safe=safe)


def _mac(key, text):
    return hmac.new(key.encode(), text.encode(), hashlib.sha256).hexdigest()


def _query(query):
    parts = (part.partition("=") for part in query.split("&") if part)
    return "&".join(sorted(f"{_spelled(name)}={_spelled(value)}" for name, _, value in parts))


def signature(key_id, secret, method, target, headers):
    """The header for a request with these headers, all of which are signed by default."""
    path, _, query = target.partition("?")
    lines = (f"{name.lower()}:{quote(value.strip(), safe='')}" for name, value in headers.items() if value.strip())
    canonical = "\n".join([method, _spelled(path, "/"), _query(query), "\n".join(sorted(lines))])
    prefix = f"bce-auth-v1/{key_id}/{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}/1800"
    return f"{prefix}//{_mac(_mac(secret, prefix), canonical)}"
