"""The application: routes over completers, behind the guards."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from spellbound.errors import InputError
from spellbound.server import answers, replies, stories
from spellbound.server.bridge import EventStream, unless_gone
from spellbound.server.errors import ApiError
from spellbound.server.fields import naming, wrong_field
from spellbound.server.gate import Gate, Permit
from spellbound.server.guard import OPEN, Faults, HostGuard, KeyGuard, SizeGuard
from spellbound.server.metrics import Metrics
from spellbound.server.offers import Offer, Offers
from spellbound.server.openai_format import Chat, Text, chat_job, completion_jobs, messages_of
from spellbound.server.schemas import (
    ChatRequest,
    CompletionRequest,
    DetokenizeRequest,
    Sampling,
    StoryRequest,
    TokenizeRequest,
)
from spellbound.server.settings import ServeSettings
from spellbound.server.writing import Job, Writing
from spellbound.story.completion import Completer

_LOG = logging.getLogger(__name__)
_LOOK_AGAIN_S = 1.0

Refresh = Callable[[], list[str]]
"""Looks whether the models have other adapters by now, and returns a line for each thing that is wrong."""


class Service:
    """What the routes work with."""

    def __init__(
        self,
        models: Mapping[str, Completer],
        settings: ServeSettings,
        refresh: Refresh | None,
    ) -> None:
        """Serve these models; what they have besides is kept up to date by `refresh`."""
        self.settings = settings
        self.offers = Offers(models)
        self._refresh, self._looked = refresh, time.monotonic()
        self._look: asyncio.Task[None] | None = None
        self._passed_over = False
        """Whether adapters were being written with at the last look, which those cannot be changed at."""
        self.metrics = Metrics(self.offers.completers)
        self.gate = Gate(settings.max_per_client)
        self.started = int(time.time())

    def enter(self, request: Request, offer: Offer, texts: int = 1) -> Permit:
        """Let a request in. No header counts: whoever asks writes those."""
        return self.gate.enter(request.client.host if request.client else "", texts, offer.adapter)

    def look_again(self) -> "asyncio.Task[None] | None":
        """Begin to look what there is by now; return the look that goes on, if any.

        Once a second at most, and once more as soon as nothing is written with what could not be changed.
        """
        if self._look is not None and not self._look.done():
            return self._look
        now_free = self._passed_over and not self.gate.uses_adapters
        if self._refresh is None or not (now_free or time.monotonic() >= self._looked + _LOOK_AGAIN_S):
            return None
        self._look = asyncio.create_task(self._look_now(self._refresh))
        return self._look

    async def _look_now(self, refresh: Refresh) -> None:
        """Offer what there is; a fault goes to the log, and whatever it concerns stays as it was."""
        used = self.gate.uses_adapters
        try:
            for fault in await run_in_threadpool(refresh):
                _LOG.warning("%s", fault)
            self.offers = Offers(self.offers.completers)
        except Exception as error:  # noqa: BLE001 (what is offered already goes on)
            _LOG.warning("looking for adapters: %s: %s", type(error).__name__, error)
        finally:
            self._looked = time.monotonic()
            self._passed_over = used or self.gate.uses_adapters

    async def find(self, name: str | None) -> Offer:
        """Return a model by its name, the first one for none; ApiError if there is no such model.

        Who asks for an adapter waits for the look: once the request is in, that adapter cannot be changed.
        """
        look = self.look_again()
        if look is not None and name and not self.offers.lasts(name):
            await asyncio.wait({look})
        return self.offers.find(name)

    async def all(self) -> list[Offer]:
        """Return every model there is by now."""
        if look := self.look_again():
            await asyncio.wait({look})
        return list(self.offers)

    def model_object(self, offer: Offer) -> dict[str, Any]:
        """Say what a model is."""
        return {
            "id": offer.name,
            "object": "model",
            "created": self.started,
            "owned_by": "spellbound",
            "root": offer.base,
            **_room(offer),
        }

    async def complete(
        self, request: Request, body: Sampling, offer: Offer, jobs: list[Job], objects: Chat | Text
    ) -> Response:
        """Write the texts of a request."""
        permit = self.enter(request, offer, sum(job.count for job in jobs))
        try:
            writing = Writing(offer, jobs, permit, self.metrics, time.perf_counter())
            if not await unless_gone(request.receive, writing.begin()):
                permit.close()
                return _gone()
            if body.stream:
                options = body.stream_options
                events = answers.streamed(
                    writing, objects, body, include_usage=bool(options and options.include_usage)
                )
                return EventStream(events, permit.close)
            answer = await unless_gone(request.receive, answers.whole(writing, objects))
        except BaseException as error:
            permit.close()
            if isinstance(error, InputError) and not offer.there:
                raise self.offers.missing(offer.name) from error
            raise
        permit.close()
        return _gone() if answer is None else JSONResponse(answer)

    async def write(self, request: Request, body: StoryRequest) -> Response:
        """Write a passage of a story."""
        offer = await self.find(body.model)
        prompt, options = stories.prompt_of(body.prompt), stories.options_of(body, offer)
        permit = self.enter(request, offer)
        try:
            passage = stories.Passage(offer, permit, self.metrics, time.perf_counter())
            if not await unless_gone(request.receive, passage.begin(prompt, options)):
                permit.close()
                return _gone()
            if body.stream is not False:
                return EventStream(stories.streamed(passage, body), permit.close)
            answer = await unless_gone(request.receive, stories.whole(passage))
        except BaseException as error:
            permit.close()
            if isinstance(error, InputError) and not offer.there:
                raise self.offers.missing(offer.name) from error
            raise
        permit.close()
        return _gone() if answer is None else JSONResponse(answer)

    async def tokenize(self, body: TokenizeRequest) -> dict[str, Any]:
        """Return the tokens of a text or a chat."""
        offer = await self.find(body.model)
        text = body.prompt if body.prompt is not None else body.content
        prompt = messages_of(body.messages or []) or text
        if prompt is None or (body.messages and text is not None):
            raise ApiError(
                400, "give either prompt (or content) or messages", param="prompt", code="invalid_value"
            )
        start = body.add_special_tokens is not False
        tokens = await run_in_threadpool(offer.completer.tokenize, prompt, start=start)
        return {"count": len(tokens), "tokens": tokens, **_room(offer)}

    async def detokenize(self, body: DetokenizeRequest) -> dict[str, Any]:
        """Return the text of tokens, by vLLM's name and by llama.cpp's."""
        completer = (await self.find(body.model)).completer
        text = await run_in_threadpool(completer.detokenize, body.tokens)
        return {"prompt": text, "content": text}


class _Documented(FastAPI):
    """With a document that says what is."""

    keyed = False
    """Whether a key is asked for."""

    def openapi(self) -> dict[str, Any]:
        """Leave out the framework's own answer to a wrong field, which `wrong_field` replaces."""
        document = super().openapi()
        for path in document["paths"].values():
            for operation in path.values():
                operation["responses"].pop("422", None)
        document["components"]["schemas"] |= replies.definitions()
        for name in ("HTTPValidationError", "ValidationError"):
            document["components"]["schemas"].pop(name, None)
        if self.keyed:
            document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
            document["security"] = [{"key": []}]
            for path in OPEN:
                document["paths"][path]["get"]["security"] = []
        return document


def create_app(
    models: Mapping[str, Completer],
    settings: ServeSettings,
    refresh: Refresh | None = None,
) -> FastAPI:
    """Return the application that serves these models by name; InputError for names that cannot be.

    `refresh` is called on another thread before a model is looked for, once a second at most.
    """
    service = Service(models, settings, refresh)
    # No pages of documentation: they would load scripts from elsewhere.
    app = _Documented(title="Spellbound", docs_url=None, redoc_url=None)
    app.keyed = bool(settings.key)
    app.state.service = service
    _add_completions(app, service)
    _add_rest(app, service)
    app.add_exception_handler(RequestValidationError, wrong_field)
    app.add_exception_handler(HTTPException, _http_error)
    # The last one added stands outermost.
    app.add_middleware(SizeGuard, settings=settings)
    app.add_middleware(KeyGuard, settings=settings)
    app.add_middleware(Faults)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors_origins),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type"],
        )
    app.add_middleware(HostGuard, settings=settings)
    app.add_middleware(_Counted, metrics=service.metrics, paths=_paths(app))
    return app


def _add_completions(app: FastAPI, service: Service) -> None:
    @app.post(
        "/v1/chat/completions",
        response_model=None,
        responses=replies.written(replies.ChatCompletion, replies.ChatEvent),
    )
    async def chat(body: ChatRequest, request: Request) -> Response:
        """Go on with a chat."""
        with naming(body):
            offer = await service.find(body.model)
            job = chat_job(body, offer, service.settings)
            return await service.complete(request, body, offer, [job], Chat(offer.name))

    @app.post(
        "/v1/completions",
        response_model=None,
        responses=replies.written(replies.TextCompletion, replies.CompletionEvent),
    )
    async def completions(body: CompletionRequest, request: Request) -> Response:
        """Go on with a text."""
        with naming(body):
            offer = await service.find(body.model)
            jobs = completion_jobs(body, offer, service.settings)
            return await service.complete(request, body, offer, jobs, Text(offer.name))

    @app.post(
        "/v1/stories/write",
        response_model=None,
        responses=replies.written(replies.Passage, replies.StreamedEvent),
    )
    async def write(body: StoryRequest, request: Request) -> Response:
        """Write a passage of a story, as typed events."""
        with naming(body):
            return await service.write(request, body)


def _add_rest(app: FastAPI, service: Service) -> None:
    @app.get("/v1/models", response_model=None, responses=replies.replies(replies.ModelList))
    async def models() -> dict[str, Any]:
        """Name every model."""
        return {"object": "list", "data": [service.model_object(each) for each in await service.all()]}

    @app.get("/v1/models/{name}", response_model=None, responses=replies.replies(replies.ModelObject, 404))
    async def model(name: str) -> dict[str, Any]:
        """Say what a model is."""
        return service.model_object(await service.find(name))

    @app.post("/tokenize", response_model=None, responses=replies.replies(replies.TokenList, body=True))
    async def tokenize(body: TokenizeRequest) -> dict[str, Any]:
        """Turn text or a chat into tokens."""
        with naming(body):
            return await service.tokenize(body)

    @app.post("/detokenize", response_model=None, responses=replies.replies(replies.TextOfTokens, body=True))
    async def detokenize(body: DetokenizeRequest) -> dict[str, Any]:
        """Turn tokens into text."""
        with naming(body):
            return await service.detokenize(body)

    @app.get("/health", response_model=None, responses=replies.replies(replies.Health, 503))
    async def health() -> dict[str, str]:
        """Say whether requests are taken."""
        if service.gate.draining:
            raise ApiError(503, "the server is shutting down", code="shutting_down")
        for name, completer in service.offers.completers.items():
            if completer.fault:
                raise ApiError(503, f"nothing can be written with {name!r} now", code="not_ready")
        return {"status": "ok"}

    @app.get("/metrics", response_model=None, response_class=Response, responses=replies.METRICS)
    async def metrics() -> Response:
        """Give the numbers to Prometheus."""
        return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)


async def _http_error(request: Request, error: Exception) -> Response:
    """Say what the framework refuses as everything else is said."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    words = {
        404: f"there is nothing at {request.url.path[:80]!r}; see docs/server.md for what there is",
        405: f"{request.method[:20]} is not for {request.url.path[:80]!r}",
    }
    detail = str(error.detail) if isinstance(error, HTTPException) else "the server failed"
    headers = error.headers if isinstance(error, HTTPException) else None
    code = "invalid_json" if status == 400 else f"http_{status}"  # of what JSON cannot nest so deep
    return ApiError(status, words.get(status, detail), code=code, headers=headers).response()


def _room(offer: Offer) -> dict[str, int]:
    """How many tokens a prompt and its text may have together, where that is known."""
    return {} if offer.completer.context is None else {"max_model_len": offer.completer.context}


def _gone() -> Response:
    """For a client that will not read it; the status is nginx's, for the log."""
    return Response(status_code=499)


def _paths(app: FastAPI) -> frozenset[str]:
    return frozenset(route.path for route in app.routes if isinstance(route, Route))


class _Counted:
    """Counts answers."""

    def __init__(self, app: ASGIApp, metrics: Metrics, paths: frozenset[str]) -> None:
        self._app, self._metrics, self._paths = app, metrics, paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                path = scope["path"] if scope["path"] in self._paths else "other"
                self._metrics.answered(path, message["status"])
            await send(message)

        await self._app(scope, receive, noting if scope["type"] == "http" else send)
