"""The application: its routes and what every request passes."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, get_args

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware

from asr import __version__
from asr.server import transcriptions
from asr.server.errors import ApiError
from asr.server.fields import GRANULARITIES, ResponseFormat
from asr.server.gate import Doors, Gate, as_api_error
from asr.server.listen import listen
from asr.server.metrics import CONTENT_TYPE
from asr.server.options import ServerOptions
from asr.server.page import Page
from asr.server.service import Service


def create_app(service: Service) -> FastAPI:
    """The ASGI application of one process."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with service.stopping_on_signals():
            yield
        service.close()

    app = FastAPI(
        title="asr", version=__version__, docs_url=None, redoc_url=None, lifespan=lifespan
    )
    app.state.service, app.state.page = service, Page()
    _add_routes(app)
    app.add_exception_handler(ApiError, _answer_api_error)
    app.add_exception_handler(HTTPException, _answer_http_error)
    # The one that is added last is passed first.
    app.add_middleware(Doors, service=service)
    if service.options.allow_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(service.options.allow_origins),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type"],
            expose_headers=["Server-Timing", "Retry-After", "X-Request-ID"],
        )
    app.add_middleware(Gate, service=service)
    return app


def _add_routes(app: FastAPI) -> None:
    app.post("/v1/audio/transcriptions", openapi_extra={"requestBody": _form()})(
        transcriptions.transcribe
    )
    app.websocket("/v1/listen")(listen)
    app.get("/v1/models")(_models)
    app.get("/v1/models/{name:path}")(_model)
    app.get("/health")(_health)
    app.get("/metrics")(_metrics)
    app.api_route("/", methods=["GET", "HEAD"], include_in_schema=False)(_page)
    app.get("/page/{name}", include_in_schema=False)(_page_file)


def _form() -> dict[str, Any]:
    """The form of a transcription for /openapi.json; the body is read by hand, within limits."""
    text = {"type": "string"}
    properties: dict[str, Any] = {"file": {"type": "string", "format": "binary"}}
    properties |= dict.fromkeys(("model", "prompt", "language"), text)
    properties["response_format"] = {"type": "string", "enum": list(get_args(ResponseFormat))}
    granularities = {"type": "string", "enum": list(GRANULARITIES)}
    properties["timestamp_granularities[]"] = {"type": "array", "items": granularities}
    properties["keywords[]"] = {"type": "array", "items": text}
    properties["chunking_strategy"] = {"type": "string", "enum": ["auto"]}
    schema = {"type": "object", "required": ["file"], "properties": properties}
    return {"required": True, "content": {"multipart/form-data": {"schema": schema}}}


async def _models(request: Request) -> JSONResponse:
    """All models, in OpenAI's shape."""
    models = request.app.state.service.models.by_name.values()
    return JSONResponse({"object": "list", "data": [model.to_plain() for model in models]})


async def _model(request: Request, name: str) -> JSONResponse:
    """One model."""
    return JSONResponse(request.app.state.service.models.find(name).to_plain())


async def _health(request: Request) -> JSONResponse:
    """Whether requests are taken: 200, or 503 while the server stops."""
    if request.app.state.service.jobs.stopping:
        return JSONResponse({"status": "stopping"}, 503)
    return JSONResponse({"status": "ok"})


async def _metrics(request: Request) -> Response:
    """Figures for Prometheus."""
    return Response(request.app.state.service.metrics.text(), media_type=CONTENT_TYPE)


async def _page(request: Request) -> Response:
    """The page."""
    page: Page = request.app.state.page
    return page.answer(request)


async def _page_file(request: Request, name: str) -> Response:
    """A further file of the page."""
    page: Page = request.app.state.page
    return page.answer(request, name)


async def _answer_api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    if error.code:
        request.state.note["code"] = error.code
    return error.response()


async def _answer_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return as_api_error(error, request.method, request.url.path).response()


@dataclass(frozen=True)
class AppFactory:
    """Makes the application in each worker, which is a process of its own."""

    options: ServerOptions
    tokens: tuple[str, ...]

    def __call__(self) -> Any:
        """The application."""
        return create_app(Service(self.options, self.tokens))
