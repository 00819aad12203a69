"""The headers of the page: nothing is run or loaded that does not come with it. Pure.

Source: https://www.w3.org/TR/CSP3/, https://w3c.github.io/trusted-types/dist/spec/ (read 2026-11-28)
"""

from collections.abc import Mapping
from dataclasses import replace

from dhenara_async.web.chat.http import WebReply

HEADERS: Mapping[str, str] = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=(), browsing-topics=()",
    "x-frame-options": "DENY",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
}
"""Headers of every response that has none of its own."""

PAGE_POLICY: str = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self' blob: data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types dompurify",
    )
)
"""The content security policy of the page itself."""


def secured(reply: WebReply) -> WebReply:
    """Return a reply with the headers that it has none of its own for."""
    return replace(reply, headers={**HEADERS, **reply.headers})
