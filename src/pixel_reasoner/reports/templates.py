"""HTML templates: every value is escaped, and a page runs or loads only its own style and script.

A value becomes visible text (`text.visible`) unless it is `Markup`, which only templates create. If escaping failed,
the
Content-Security-Policy of a page would still allow only its own style and script (by hash) and inline pictures.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

from pixel_reasoner.text import visible

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup


def render(template: str, **values: Any) -> Markup:
    """Return a rendered template as HTML that another template does not escape again."""
    from markupsafe import Markup

    return Markup("".join(render_parts(template, **values)))


def render_parts(template: str, **values: Any) -> Iterator[str]:
    """Yield a rendered template in parts, so that a page does not have to fit in memory."""
    return environment(__package__).get_template(template).generate(**values)


def asset(name: str) -> Markup:
    """Return a style or script of this package."""
    from markupsafe import Markup

    return Markup(_folder().joinpath(name).read_text(encoding="utf-8"))


def csp_hash(text: str) -> str:
    """Return the hash of a style or script for a Content-Security-Policy."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _folder() -> Any:
    return resources.files(__package__) / "templates"


@cache
def environment(package: str) -> Environment:
    """Return the templates in the folder `templates` of a package. Every value is escaped."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader(package),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_as_visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["csp_hash"] = csp_hash
    return environment


def _as_visible(value: Any) -> Any:
    from markupsafe import Markup

    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value
