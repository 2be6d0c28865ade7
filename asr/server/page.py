"""The page at `/`: files that are read once, served under fixed names."""

import hashlib
from importlib import resources
from pathlib import PurePath

from fastapi import Request
from fastapi.responses import Response

from asr.server.errors import ApiError

INDEX = "index.html"
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "media-src blob:",  # the recording that is played
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
"""The Content-Security-Policy: nothing inline and nothing from elsewhere."""
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
"""Of the files. The system's table may be wrong, and browsers run scripts of this type only."""


class Page:
    """The files of the folder `page`, with their headers."""

    def __init__(self) -> None:
        folder = resources.files("asr.server") / "page"
        names = [path.name for path in folder.iterdir() if PurePath(path.name).suffix in _TYPES]
        self._files = {name: (folder / name).read_bytes() for name in names}

    def answer(self, request: Request, name: str = INDEX) -> Response:
        """A file of the page. Raises ApiError for a name that there is not."""
        content = self._files.get(name)
        if content is None:
            raise ApiError(404, "There is no such file", code="not_found")
        tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
        headers = {
            "ETag": tag,
            "Cache-Control": "no-cache",
            "Content-Security-Policy": POLICY,
            "Permissions-Policy": "microphone=(self)",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        }
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(content, headers=headers, media_type=_TYPES[PurePath(name).suffix])
