"""An upload on its way to pixels: what it claims to be is looked at before it is decoded.

Decoding itself is `tasks.pixels.pixels_of`, as for `Learner.predict`; so an image gets the same pixels either way.
"""

import io
from collections.abc import Sequence

import numpy as np
from PIL import Image

from everlearn.serving.limits import Limits, Refused
from everlearn.serving.uploads import Upload
from everlearn.storing.records import Preprocessing
from everlearn.tasks.pixels import Fit, pixels_of, unwarned

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
    name = upload.name
    if not upload.content:
        raise Refused(422, f"{name} is empty (0 bytes).")
    try:
        with unwarned(), Image.open(io.BytesIO(upload.content), formats=FORMATS) as image:
            if image.height * image.width > limits.pixels:
                raise Refused(
                    413, f"{name} has {image.width:,} x {image.height:,} pixels; {limits.pixels:,} are the most."
                )
            return pixels_of(image, pre.channels == 1, Fit((pre.height, pre.width)))
    except Refused:
        raise
    except Image.UnidentifiedImageError:
        raise Refused(415, f"{name} is no image of a known format ({', '.join(FORMATS)}).") from None
    except Image.DecompressionBombError:
        raise Refused(413, f"{name} has far more pixels than {limits.pixels:,}, the most.") from None
    except MemoryError:
        raise Refused(413, f"{name} needs more memory to decode than there is.") from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:  # Pillow's own words for damage
        raise Refused(422, f"{name} cannot be read as an image ({error}).") from None
    except Exception as error:  # a decoder may raise anything on bytes that were made to do harm
        raise Refused(422, f"{name} cannot be decoded ({type(error).__name__}).") from None
