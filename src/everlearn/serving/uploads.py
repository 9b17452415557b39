"""The files of a multipart request, read as they arrive: what is beyond a limit is refused before it is held."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from everlearn.serving.limits import Limits, Refused, amount

FIELD = "images"
"""The name that every file of a request has in the form."""


@dataclass
class Upload:
    """One file.

    Attributes:
        name: that the client gave it, made harmless; it is shown, and names no file here.
        content: its bytes.
    """

    name: str
    content: bytearray = field(default_factory=bytearray)


def harmless(name: str) -> str:
    """What is printable of the last part of a client's file name, shortened."""
    last = name.replace("\\", "/").rpartition("/")[2]
    plain = "".join(sign if sign.isprintable() else "?" for sign in last).strip()
    return plain if len(plain) <= 60 else f"{plain[:40]}...{plain[-15:]}"


class Budget:
    """The bytes of all requests that are being read and answered; belongs to the event loop.

    Args:
        most: bytes.
    """

    def __init__(self, most: int) -> None:
        self._most, self.taken = most, 0

    @contextmanager
    def share(self) -> Iterator[Callable[[int], None]]:
        """One request's share: call it with each number of bytes; they are given back at the end.

        Raises:
            Refused: by the call; the bytes are too many.
        """
        mine = 0

        def take(count: int) -> None:
            nonlocal mine
            if self.taken + count > self._most:
                raise Refused(503, "the server holds too many images at the moment; try again in a second.")
            self.taken += count
            mine += count

        try:
            yield take
        finally:
            self.taken -= mine


class Form:
    """The form of one request; `feed` it what arrives, then `finish`.

    Args:
        content_type: the request's header.
        limits: of images and bytes.

    Raises:
        Refused: it is no multipart form.
    """

    def __init__(self, content_type: str, limits: Limits) -> None:
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary", b"")
        if kind == b"multipart/form-data" and not boundary:
            raise Refused(
                415, "the content type multipart/form-data came without the boundary between the form's parts; let the "
                "library that makes the form write that header.",
            )  # fmt: skip
        if kind != b"multipart/form-data":
            raise Refused(
                415, f"images are wanted as multipart/form-data, each in the field {FIELD!r}, but the request has "
                f"{_shown(content_type) if content_type else 'no content type'}."
            )  # fmt: skip
        self._limits, self.uploads, self._bytes, self._ended = limits, list[Upload](), 0, False
        self._header, self._value, self._disposition = bytearray(), bytearray(), ""
        try:
            self._parser = MultipartParser(boundary, {
                "on_part_begin": self._begin, "on_header_field": self._on_header, "on_header_value": self._on_value,
                "on_header_end": self._header_end, "on_headers_finished": self._headers_finished,
                "on_part_data": self._data, "on_end": self._end,
            })  # fmt: skip
        except FormParserError:
            raise Refused(400, "the multipart form has a boundary that is too long.") from None

    def feed(self, data: bytes) -> None:
        """Take the next bytes.

        Raises:
            Refused: a limit is passed, or the form is malformed.
        """
        self._bytes += len(data)
        if self._bytes > self._limits.bytes:
            raise too_large(self._limits)
        try:
            self._parser.write(data)
        except FormParserError:
            raise Refused(400, "the multipart form is malformed.") from None

    def finish(self) -> list[Upload]:
        """The files.

        Raises:
            Refused: the form is cut off, or holds no file.
        """
        if not self._ended:
            raise Refused(400, "the multipart form is malformed: it ends too early." if self._bytes else _NOTHING)
        if not self.uploads:
            raise Refused(400, _NOTHING)
        return self.uploads

    def _begin(self) -> None:
        self._disposition = ""

    def _on_header(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value.decode("latin-1")
        self._header.clear()
        self._value.clear()

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        name = options.get(b"name", b"").decode("utf-8", "replace")
        if name != FIELD:
            raise Refused(400, f"images are wanted in the field {FIELD!r}, but a field {_shown(name)} came.")
        if b"filename" not in options:
            raise Refused(400, f"the field {FIELD!r} needs to be a file, but came as text.")
        if len(self.uploads) == self._limits.images:
            raise Refused(413, f"a request may have {self._limits.images} images at most; send the rest in another.")
        given = harmless(options[b"filename"].decode("utf-8", "replace"))
        self.uploads.append(Upload(given or f"image {len(self.uploads) + 1}"))

    def _data(self, data: bytes, start: int, end: int) -> None:
        upload = self.uploads[-1]
        upload.content += data[start:end]
        if len(upload.content) > self._limits.file_bytes:
            raise Refused(413, f"{upload.name} has more than {amount(self._limits.file_bytes)}, the most for an image.")

    def _end(self) -> None:
        self._ended = True


_NOTHING = f"the request holds no image; send files in the field {FIELD!r}."


def too_large(limits: Limits) -> Refused:
    """A request of too many bytes."""
    return Refused(413, f"the request has more than {amount(limits.bytes)}, the most for one; send fewer images.")


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:57]}...")


class Body:
    """What a client sends, as it arrives.

    Args:
        receive: the next message of the connection.
    """

    def __init__(self, receive: Callable[[], Awaitable[MutableMapping[str, Any]]]) -> None:
        self._receive, self._ended = receive, False

    async def parts(self) -> AsyncIterator[bytes]:
        """The bytes, part by part.

        Raises:
            Refused: the client left.
        """
        while not self._ended:
            message = await self._receive()
            self._ended = not message.get("more_body", False)
            if message["type"] != "http.request":
                raise Refused(400, "the request was cut off.")
            yield message.get("body", b"")

    async def drain(self, most: int) -> None:
        """Read on what a refused client still sends: most show no answer before they have sent everything."""
        with suppress(TimeoutError, Refused):
            async with asyncio.timeout(5):
                async for data in self.parts():
                    most -= len(data)
                    if most < 0:
                        return


async def read_form(content_type: str, body: Body, limits: Limits, take: Callable[[int], None]) -> list[Upload]:
    """The files of a request, whose bytes are counted by `take`.

    Raises:
        Refused: a limit is passed, or it is no form as wanted.
    """
    form = Form(content_type, limits)
    try:
        async with asyncio.timeout(limits.seconds):
            async for data in body.parts():
                take(len(data))
                form.feed(data)
    except TimeoutError:
        raise Refused(408, f"the request did not arrive within {limits.seconds:g} seconds.") from None
    return form.finish()
