"""An upload on its way to pixels: what it claims to be is looked at before it is decoded.

Decoding itself is `tasks.pixels.read_image`, as for `Learner.predict`; so an image gets the same pixels either way.
"""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from everlearn.errors import DataError
from everlearn.serving.limits import Limits, Refused
from everlearn.serving.uploads import Upload
from everlearn.storing.records import Preprocessing
from everlearn.tasks.pixels import Fit, read_image, unwarned

Image.init()
FORMATS = tuple(kind for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF") if kind in Image.OPEN)
"""Formats that are decoded; Pillow knows others, of which one runs another program (EPS)."""

TOGETHER = 8
"""Images that a thread decodes by one call."""


def decode(uploads: Sequence[Upload], pre: Preprocessing, limits: Limits) -> np.ndarray:
    """Some uploads as 8-bit levels, `[n, H, W]` or `[n, H, W, 3]`.

    Raises:
        Refused: one of them is no image that can be decoded, or has too many pixels.
    """
    return np.stack([_decode(upload, pre, limits) for upload in uploads])


def _decode(upload: Upload, pre: Preprocessing, limits: Limits) -> np.ndarray:
    data, name = bytes(upload.content), upload.name
    if not data:
        raise Refused(422, f"{name} is empty (0 bytes).")
    height, width = _size(data, name, limits)
    if height * width > limits.pixels:
        raise Refused(413, f"{name} has {width:,} x {height:,} pixels; {limits.pixels:,} are the most.")
    try:
        return read_image(data, name, pre.channels == 1, Fit((pre.height, pre.width)))
    except DataError as error:
        raise Refused(422, str(error).replace("; replace it or take it out", "")) from None
    except MemoryError:
        raise Refused(413, f"{name} needs more memory to decode than there is.") from None
    except Exception as error:  # a decoder may raise anything on bytes that were made to do harm
        raise Refused(422, f"{name} cannot be decoded ({type(error).__name__}).") from None


def _size(data: bytes, name: str, limits: Limits) -> tuple[int, int]:
    """Height and width as the file's head has them."""
    try:
        with unwarned(), Image.open(io.BytesIO(data), formats=FORMATS) as image:
            return image.height, image.width
    except Image.UnidentifiedImageError:
        raise Refused(415, f"{name} is no image of a known format ({', '.join(FORMATS)}).") from None
    except Image.DecompressionBombError:
        raise Refused(413, f"{name} has far more pixels than {limits.pixels:,}, the most.") from None
    except Exception as error:  # as above
        raise Refused(422, f"{name} cannot be decoded ({type(error).__name__}).") from None
