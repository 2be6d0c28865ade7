"""The page at `/`: files that are read once, served under fixed names."""

import base64
import hashlib
import mimetypes
import re
from importlib import resources

from fastapi import Request
from fastapi.responses import Response

from asr.server.errors import ApiError

INDEX = "index.html"


class Page:
    """The files of the folder `page`, with their headers."""

    def __init__(self) -> None:
        folder = resources.files("asr.server") / "page"
        self._files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
        self._policy = policy(self._files[INDEX].decode())

    def answer(self, request: Request, name: str = INDEX) -> Response:
        """A file of the page. Raises ApiError for a name that there is not."""
        content = self._files.get(name)
        if content is None:
            raise ApiError(404, "There is no such file", code="not_found")
        tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
        headers = {
            "ETag": tag,
            "Cache-Control": "no-cache",
            "Content-Security-Policy": self._policy,
            "Permissions-Policy": "microphone=(self)",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        }
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        return Response(content, headers=headers, media_type=kind)


def policy(html: str) -> str:
    """The Content-Security-Policy of a page: nothing from elsewhere, and its own scripts only."""
    inline = re.findall(r"<script(?![^>]*\ssrc=)[^>]*>(.*?)</script>", html, re.DOTALL)
    digests = (hashlib.sha256(script.encode()).digest() for script in inline)
    hashes = "".join(f" 'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src 'self' blob:{hashes}",
            "worker-src 'self' blob:",
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data: blob:",
            "media-src 'self' blob:",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'self'",
            "frame-ancestors 'none'",
        )
    )
