"""The paths of the server: what each takes, and says."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from starlette.exceptions import HTTPException

from everlearn.errors import UnknownNameError
from everlearn.serving.answers import Answers, Health, Mistake, Tasks, answers_of, tasks_of
from everlearn.serving.current import Current
from everlearn.serving.limits import Limits, Refused
from everlearn.serving.measuring import TEXT, Measured
from everlearn.serving.pages import Page, docs_page, drop_page
from everlearn.serving.service import Service
from everlearn.serving.uploads import FIELD

_FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": [FIELD],
                    "properties": {FIELD: {"type": "array", "items": {"type": "string", "format": "binary"}}},
                }
            }
        },
    }
}
_QUERY = ("task", "top")
_REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"model": Mistake, "description": "No form as wanted"},
    404: {"model": Mistake, "description": "No such task"},
    408: {"model": Mistake, "description": "It did not arrive in time"},
    409: {"model": Mistake, "description": "The learner knows no task yet"},
    413: {"model": Mistake, "description": "Too many images, bytes or pixels"},
    415: {"model": Mistake, "description": "No form, or no image of a known format"},
    422: {"model": Mistake, "description": "An image that is damaged or empty, or a query without sense"},
    503: {"model": Mistake, "description": "Too many requests at the moment"},
}


def application(current: Current, limits: Limits) -> FastAPI:
    """The application that serves a learner."""
    service = Service(current, limits)

    @asynccontextmanager
    async def living(_: FastAPI) -> AsyncIterator[None]:
        async with service.running():
            yield

    api = FastAPI(
        title=f"everlearn: {current.folder.name}",
        description="Ask a lifelong learner what images show. A refusal is a JSON object with one sentence, `error`.",
        version="1",
        docs_url=None,
        redoc_url=None,
        lifespan=living,
    )
    _add_paths(api, service)
    _add_pages(api)
    _add_refusals(api)
    paths = frozenset({"/", "/tasks", "/predict", "/health", "/metrics", "/docs", "/openapi.json"})
    api.add_middleware(Measured, metrics=service.metrics, paths=paths)
    return api


def _add_paths(api: FastAPI, service: Service) -> None:
    @api.get("/tasks", response_model=Tasks, summary="List the tasks")
    async def tasks() -> Response:
        return _json(tasks_of(service.current.loaded))

    @api.post(
        "/predict", response_model=Answers, responses=_REFUSALS, openapi_extra=_FORM,
        summary="Say what images show, one or many",
    )  # fmt: skip
    async def predict(
        request: Request,
        task: Annotated[str | None, Query(description="that answers; without it, the most plausible one")] = None,
        top: Annotated[int | None, Query(ge=1, description="say the probabilities of so many classes; all")] = None,
    ) -> Response:
        _check_query(request)
        asked = await service.predict(request, task)
        return _json(answers_of(asked.loaded, asked.names, asked.found, task is not None, top))

    @api.get("/health", response_model=Health, summary="How the server is")
    async def health() -> Response:
        return _json(await service.health())

    @api.get("/metrics", summary="Numbers for Prometheus", response_class=Response)
    async def metrics() -> Response:
        return Response(service.numbers(), media_type=TEXT)


def _check_query(request: Request) -> None:
    """Refuse a parameter that does not exist or came twice: another task would answer than the one that was meant."""
    names = [name for name, _ in request.query_params.multi_items()]
    for name in names:
        if name not in _QUERY:
            raise Refused(400, str(UnknownNameError("parameter", name[:60], _QUERY)))
        if names.count(name) > 1:
            raise Refused(400, f"the parameter {name} came {names.count(name)} times; give it once.")


def _add_pages(api: FastAPI) -> None:
    page = drop_page()

    @api.get("/", include_in_schema=False)
    async def drop() -> Response:
        return _html(page)

    @api.get("/docs", include_in_schema=False)
    async def docs() -> Response:
        return _html(docs_page(api.openapi()))


def _add_refusals(api: FastAPI) -> None:
    async def refused(_: Request, error: Exception) -> Response:
        assert isinstance(error, Refused)
        headers = {"retry-after": "1"} if error.status == 503 else {}
        return JSONResponse({"error": str(error)}, error.status, headers)

    async def invalid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        what, came = first["loc"][-1], str(first.get("input", ""))[:60]
        said = str(first["msg"]).lower().replace("input ", "it ", 1)
        return JSONResponse({"error": f"{what} came as {came!r}, but {said}."}, 422)

    async def other(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        reason = {404: "there is nothing here; /docs says what there is.", 405: "this path takes another method."}
        said = reason.get(error.status_code, f"{str(error.detail).lower().rstrip('.')}.")
        return JSONResponse({"error": said}, error.status_code, error.headers)

    api.add_exception_handler(Refused, refused)
    api.add_exception_handler(RequestValidationError, invalid)
    api.add_exception_handler(HTTPException, other)


def _json(model: Tasks | Answers | Health) -> Response:
    return Response(model.model_dump_json(), media_type="application/json")


def _html(page: Page) -> HTMLResponse:
    return HTMLResponse(page.html, headers={"content-security-policy": page.policy})
