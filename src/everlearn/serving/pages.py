"""The two pages for people. Their policy lets a browser run and load nothing but what stands in them."""

import hashlib
import re
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Page:
    """A page.

    Attributes:
        html: all of it.
        policy: its Content-Security-Policy.
    """

    html: str
    policy: str


@cache
def drop_page() -> Page:
    """Where one drops an image; it asks /tasks and /predict for what it shows, and so is the same for all learners."""
    return _page((_HERE / "page.html").read_text("utf-8"))


def docs_page(api: Mapping[str, Any]) -> Page:
    """The paths of an OpenAPI description, to be read."""
    templates = Environment(
        loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return _page(templates.get_template("docs.html").render(api=api))


def _page(html: str) -> Page:
    styles, scripts = (_hashes(html, tag) for tag in ("style", "script"))
    policy = (
        f"default-src 'none'; style-src {styles}; script-src {scripts}; img-src blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return Page(html, policy)


def _hashes(html: str, tag: str) -> str:
    blocks = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.S)
    marks = [b64encode(hashlib.sha256(block.encode()).digest()).decode() for block in blocks]
    return " ".join(f"'sha256-{mark}'" for mark in marks) or "'none'"
