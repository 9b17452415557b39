"""Uploads that somebody made to do harm, or that are merely unusual: a reason in one sentence, or the right answer."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

import everlearn
from everlearn.serving import app
from everlearn.serving.limits import Limits
from everlearn.serving.uploads import harmless
from tests.serving.conftest import encoded, form, picture

SVG = b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(width: int, height: int, data: bytes = b"") -> bytes:
    """A PNG that claims these dimensions."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = (chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(data)), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def two_halves() -> Image.Image:
    """Red on the left, blue on the right; turned, it is another image."""
    image = picture("red", (40, 20))
    image.paste(picture("blue", (20, 20)), (20, 0))
    return image


REFUSED = {
    "empty": (b"", 422, "empty (0 bytes)"),
    "text": (b"hello, I am no image", 415, "no image of a known format"),
    "svg": (SVG, 415, "no image of a known format"),
    "eps": (EPS, 415, "no image of a known format"),
    "bomb": (png_of(9_000, 9_000, bytes(3 * 9_000 * 9_000 // 40)), 413, "9,000 x 9,000 pixels"),
    "huge": (png_of(2**31 - 1, 2**31 - 1), 413, "pixels"),
    "none": (png_of(0, 10), 415, "no image"),
    "truncated png": (encoded(Image.effect_noise((90, 90), 90))[:-3000], 422, "truncated"),
    "truncated jpeg": (encoded(Image.effect_noise((90, 90), 90), "JPEG")[:900], 422, "truncated"),
    "only a head": (b"\x89PNG\r\n\x1a\n", 415, "no image"),
    "claims more": (png_of(40, 40, b"abc"), 422, "cannot be read"),
    "webp head": (b"RIFF\x00\x00\x00\x00WEBPVP8 ", 422, "cannot be read"),
    "floats": (encoded(Image.new("F", (9, 9), 0.5), "TIFF"), 422, "floating-point"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_a_reason(client: TestClient, case: str) -> None:
    content, status, part = REFUSED[case]
    answer = client.post("/predict", files=form(encoded(picture()), content, name="some.png"))
    said = answer.json()["error"]
    assert answer.status_code == status, said
    assert part in said
    assert said.startswith("some.png ")
    assert "\n" not in said
    assert "Traceback" not in said


def unusual() -> dict[str, bytes]:
    turned = Image.Exif()
    turned[0x0112] = 6
    levels = np.tile(np.linspace(0, 65535, 32).astype(np.uint16), (32, 1))
    frames = [picture("yellow"), picture("blue")]
    transparent = two_halves().convert("RGBA")
    transparent.putalpha(10)
    return {
        "exif": encoded(two_halves(), "JPEG", exif=turned, quality=95),
        "cmyk": encoded(two_halves().convert("CMYK"), "JPEG"),
        "16 bit": encoded(Image.fromarray(levels), "PNG"),
        "16 bit tiff": encoded(Image.fromarray(levels), "TIFF"),
        "gif": encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        "webp": encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True),
        "palette": encoded(two_halves().convert("P")),
        "transparent": encoded(transparent),
        "one bit": encoded(two_halves().convert("1")),
        "grey": encoded(two_halves().convert("L"), "BMP"),
        "one pixel": encoded(picture("green", (1, 1))),
        "thin": encoded(picture("green", (3000, 1))),
    }


UNUSUAL = unusual()


@pytest.mark.parametrize("case", UNUSUAL)
def test_answered_as_the_learner_answers(client: TestClient, original: Path, tmp_path: Path, case: str) -> None:
    path = tmp_path / "some"
    path.write_bytes(UNUSUAL[case])
    expected = everlearn.open(original).predict(path, task="flags")[0]
    answer = client.post("/predict?task=flags", files=form(UNUSUAL[case]))
    assert answer.status_code == 200, answer.text
    assert answer.json()["images"][0]["probabilities"] == pytest.approx(expected.probabilities, abs=2e-6)


def test_what_the_unusual_ones_show(client: TestClient) -> None:
    """That they equal the learner's answer would not say that both are right."""

    def asked(content: bytes) -> dict[str, float]:
        return client.post("/predict?task=flags", files=form(content)).json()["images"][0]["probabilities"]

    assert next(iter(asked(UNUSUAL["gif"]))) == "yellow", "the first frame"
    assert next(iter(asked(UNUSUAL["webp"]))) == "yellow"
    upright = two_halves().transpose(Image.Transpose.ROTATE_270)
    assert asked(UNUSUAL["exif"]) == pytest.approx(asked(encoded(upright)), abs=0.05)
    plain = np.tile((np.linspace(0, 65535, 32).astype(np.uint16) // 257).astype(np.uint8), (32, 1))
    assert asked(UNUSUAL["16 bit"]) == asked(UNUSUAL["16 bit tiff"]) == asked(encoded(Image.fromarray(plain)))


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\photos\\a.png", "a.png"),
        ("<img src=x>.png", "<img src=x>.png"),
        ("x" * 300 + ".png", "x" * 40 + "..." + "x" * 11 + ".png"),
    ],
)
def test_names_of_files_are_words_only(client: TestClient, name: str, shown: str) -> None:
    answer = client.post("/predict?top=1", files=form(encoded(picture()), name=name))
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["images"][0]["name"] == shown


def test_what_is_not_printable_is_not_shown() -> None:
    assert harmless("a\tb\x1b[0m\u202e.png") == "a?b?[0m?.png"
    assert harmless("../") == ""


BOUNDARY = {"content-type": "multipart/form-data; boundary=x"}
PART = b'--x\r\nContent-Disposition: form-data; name="images"; filename="a"\r\n\r\n'


@pytest.mark.parametrize(
    ("body", "headers", "status", "part"),
    [
        (b"", {}, 415, "no content type"),
        (b"x", {"content-type": "image/png"}, 415, "multipart/form-data"),
        (b"x", {"content-type": "multipart/form-data"}, 415, "multipart/form-data came without the boundary"),
        (b"", BOUNDARY, 400, "holds no image"),
        (b"nonsense", BOUNDARY, 400, "malformed"),
        (b"--x--\r\n", BOUNDARY, 400, "no image"),
        (PART + b"abc", BOUNDARY, 400, "ends too early"),
        (PART.replace(b"images", b"image") + b"abc\r\n--x--", BOUNDARY, 400, "a field 'image' came"),
        (PART.replace(b'; filename="a"', b"") + b"abc\r\n--x--", BOUNDARY, 400, "came as text"),
        (b"--x\r\n\r\nabc\r\n--x--", BOUNDARY, 400, "a field '' came"),
        (b"--x\r\n" + b"A: b\r\n" * 100, BOUNDARY, 400, "malformed"),
        (b"--x\r\n" + b"A" * 9000, BOUNDARY, 400, "malformed"),
        (b"x", {"content-type": "multipart/form-data; boundary=" + "x" * 999}, 400, "boundary"),
    ],
)
def test_forms(client: TestClient, body: bytes, headers: dict[str, str], status: int, part: str) -> None:
    answer = client.post("/predict", content=body, headers=headers)
    assert answer.status_code == status, answer.text
    assert part in answer.json()["error"]


def test_limits_of_bytes_and_pixels(original: Path) -> None:
    limits = Limits(images=3, bytes=20_000, file_bytes=9_000, pixels=400, bytes_together=30_000)
    with TestClient(app(original, limits)) as client:

        def refused(*contents: bytes) -> tuple[int, str]:
            answer = client.post("/predict", files=form(*contents))
            return answer.status_code, answer.json()["error"]

        assert client.post("/predict", files=form(encoded(picture(size=(20, 20))))).status_code == 200
        status, said = refused(encoded(picture(size=(20, 21))))
        assert (status, "20 x 21 pixels; 400 are the most" in said) == (413, True)
        assert refused(bytes(9_001))[1] == "image.png has more than 8.79 KiB, the most for an image."
        status, said = refused(bytes(8_000), bytes(8_000), bytes(8_000))
        assert (status, "the request has more than 19.5 KiB" in said) == (413, True)
        parts = (part for part in [PART, *[bytes(4_000)] * 6])  # no length is stated
        assert client.post("/predict", content=parts, headers=BOUNDARY).status_code == 413
        for _ in range(9):  # what was refused is not held against later ones
            assert client.post("/predict", files=form(encoded(picture()))).status_code == 200


def test_a_photo_that_a_decoder_warns_of(client: TestClient) -> None:
    """Warnings are errors here, as they may be elsewhere."""
    file = io.BytesIO()
    Image.new("L", (9500, 9500)).save(file, "PNG", compress_level=1)
    answer = client.post("/predict", files=form(file.getvalue()))
    assert answer.status_code == 413
    assert "9,500 x 9,500" in answer.json()["error"]
