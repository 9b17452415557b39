"""Numbers for Prometheus, and how every answer leaves: counted, with the headers that a browser should see."""

import logging
from collections.abc import Awaitable, Callable, MutableMapping
from time import perf_counter
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

log = logging.getLogger("everlearn.serving")

HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """What a server counts; of its own, so that several may live in one process."""

    def __init__(self) -> None:
        self._all = CollectorRegistry()
        self.requests = Counter(
            "everlearn_requests", "Requests answered.", ["path", "status"], registry=self._all
        )  # fmt: skip
        self.seconds = Histogram(
            "everlearn_request_seconds", "From a request's first byte to its answer.", ["path"], buckets=_SECONDS,
            registry=self._all,
        )  # fmt: skip
        self.images = Counter("everlearn_images", "Images answered.", registry=self._all)
        self.batches = Histogram(
            "everlearn_batch_images", "Images that were answered together.", buckets=_BATCHES, registry=self._all
        )
        self.generation = Gauge("everlearn_generation", "The generation that answers.", registry=self._all)
        self.reloads = Gauge("everlearn_reloads", "Newer generations that were taken.", registry=self._all)
        self.up_to_date = Gauge(
            "everlearn_up_to_date", "0 if a newer generation could not be taken.", registry=self._all
        )  # fmt: skip

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return generate_latest(self._all)


TEXT = CONTENT_TYPE_PLAIN_0_0_4


class Measured:
    """Counts and times every request, and never lets a fault of ours show more than one sentence.

    Args:
        inner: the application.
        metrics: that count.
        paths: that are counted by name; all others are "other", as anybody can ask for anything.
    """

    def __init__(self, inner: App, metrics: Metrics, paths: frozenset[str]) -> None:
        self._inner, self._metrics, self._paths = inner, metrics, paths

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return
        path = scope["path"] if scope["path"] in self._paths else "other"
        begun, status = perf_counter(), 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *HEADERS]
            await send(message)

        try:
            await self._inner(scope, receive, sending)
        except Exception:
            log.exception("a fault of the server, not of the request %s", path)
            if status == 0:
                await _fault(sending)
        finally:
            self._metrics.requests.labels(path, str(status or 499)).inc()  # 499: the client left
            self._metrics.seconds.labels(path).observe(perf_counter() - begun)


async def _fault(send: Send) -> None:
    body = b'{"error":"the server made a mistake; its log says which."}'
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 500, "headers": headers})
    await send({"type": "http.response.body", "body": body})
