"""What a user gives of a post, as a model reads it: checked, with a sentence about what is wrong."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from mulcot_rd.errors import UserError
from mulcot_rd.models.inputs import InputEncoder
from mulcot_rd.schema import length_fault


def is_missing(value: Any) -> bool:
    """Whether a value is not there: pandas writes NaN for one that is missing."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def type_fault(name: str, value: Any) -> str | None:
    """What is wrong with a value that must be text."""
    return None if isinstance(value, str) else f"{name} must be text, and is {value!r:.60}"


def fault(values: Mapping[str, str | None], encoder: InputEncoder) -> str | None:
    """What is wrong with what is given of a post, or what the model needs and the post lacks.

    Args:
        values: By the names of :class:`~mulcot_rd.schema.PostContent`.
        encoder: Knows what the model reads.

    Returns:
        A sentence, or ``None``.
    """
    for name in encoder.reads:
        if not values.get(name):
            return f"empty {name}: the model was trained on posts with {_and(encoder.reads)}"
    for name in ("text", "aspect", "caption"):
        if problem := length_fault(name, values.get(name) or ""):
            return problem
    for name, given in values.items():
        if given and not _is_unicode(given):
            return f"{name} is not Unicode: it holds half of a surrogate pair"
    return None


def image_path(image: str, folder: Path) -> str:
    """The path of an image that is named by a path or a file URL.

    Args:
        image: As it was given; a path may have been written on Windows. ``~`` is the home folder, ``~2.png`` a file.
        folder: Where relative paths begin.

    Raises:
        UserError: If it is another URL.
    """
    if "://" not in image:
        path = Path(image.replace("\\", "/"))
        return str(folder / (path.expanduser() if path.parts[:1] == ("~",) else path))
    try:
        address = urlsplit(image)
    except ValueError as error:
        raise UserError(f"image {image} is not a path or an address ({error}): give its path") from error
    if address.scheme != "file" or address.netloc not in ("", "localhost"):
        raise UserError(f"image {image} is not a file of this machine: download it, and give its path")
    return url2pathname(address.path)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _and(names: tuple[str, ...]) -> str:
    return " and ".join(names)
