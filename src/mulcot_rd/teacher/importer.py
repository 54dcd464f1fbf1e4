"""Reasonings that already exist, in the form of the authors' released file.

A row is one JSON object: ``text`` with the aspect filled in, ``aspect`` (absent or null in coarse-grained
sets), ``image_path`` and ``cot``, the answer as a model wrote it. Other fields are not read.
"""

import json
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from mulcot_rd import reasoning as response_format
from mulcot_rd.files import read_text
from mulcot_rd.schema import Post
from mulcot_rd.teacher.errors import TeacherError
from mulcot_rd.teacher.questions import Answer, Request

logger = logging.getLogger(__name__)

PostKey = tuple[str, str, str]


def read_import(path: Path) -> dict[PostKey, str]:
    """The usable answers of an import file, by image file name, aspect and text.

    Rows without a text, image or complete reasoning are skipped and counted in a warning; of several rows
    for one post the first counts.

    Raises:
        TeacherError: If the file is missing, can't be read as lines of UTF-8, or holds no usable row.
    """
    if not path.is_file():
        raise TeacherError(f"import file not found: {path}; set teacher.import_path to a JSONL file of reasonings")
    text = read_text(path, TeacherError)
    if text.lstrip().startswith("["):
        raise TeacherError(
            f"{path} begins as a JSON array: write each of its objects into a line of its own (jq -c '.[]')"
        )
    answers: dict[PostKey, str] = {}
    skipped: Counter[str] = Counter()
    for line in filter(str.strip, text.split("\n")):
        row = _read_row(line)
        if isinstance(row, str):
            skipped[row] += 1
        else:
            answers.setdefault(*row)
    if skipped:
        counts = ", ".join(f"{count} with {fault}" for fault, count in sorted(skipped.items()))
        logger.warning("%s: %d row(s) skipped: %s", path, skipped.total(), counts)
    if not answers:
        raise TeacherError(f"{path} holds no usable reasoning: each row needs text, aspect, image_path and cot")
    return answers


def post_key(text: str, aspect: str | None, image: str) -> PostKey:
    """What identifies a post across files: image file name, aspect and text with white space evened out.

    The folders of a path differ between machines, and so does what stands between them: a slash, or a backslash.
    """
    return re.split(r"[\\/]", image)[-1], " ".join((aspect or "").split()), " ".join(text.split())


def import_for(posts: Iterable[Post], path: Path) -> Callable[[Request], Answer | None]:
    """Read ``path``, and say in the log how much of ``posts`` it covers.

    Returns:
        The file's answer to a request, in the name of the file, or ``None``. They answer the first request of stage
        one alone, though a file doesn't say whether their writer knew the label: one that comes to another label is
        written anew in stage two.

    Raises:
        TeacherError: If that is nothing; see also :func:`read_import`.
    """
    answers = read_import(path)
    keys = [post_key(post.text, post.aspect, post.image) for post in posts]
    covered = sum(key in answers for key in keys)
    if keys and not covered:
        raise TeacherError(
            f"none of the {len(answers)} reasonings of {path} belongs to one of the {len(keys)} posts: text, "
            f"aspect and the file name of image_path must be a post's (the file has {next(iter(answers))}, "
            f"the first post {keys[0]})"
        )
    matched = len(answers.keys() & set(keys))
    said = "%s: %d of %d reasonings match, %d of %d posts are covered"
    logger.info(said, path, matched, len(answers), covered, len(keys))

    def find(request: Request) -> Answer | None:
        post = request.post
        text = answers.get(post_key(post.text, post.aspect, post.image))
        if text is None or request.stage == 2 or request.attempt > 1:
            return None
        return Answer(text=text, model=path.stem, finish_reason="import")

    return find


def _read_row(line: str) -> tuple[PostKey, str] | str:
    """Key and answer of one row, or what makes it unusable."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return "broken JSON"
    if not isinstance(row, dict):
        return "no object"
    text, image, cot, aspect = row.get("text"), row.get("image_path"), row.get("cot"), row.get("aspect")
    if not (isinstance(text, str) and isinstance(image, str) and isinstance(cot, str)):
        return "no text, image_path or cot"
    if not (aspect is None or isinstance(aspect, str)):
        return "an aspect that is no text"
    if response_format.parse(cot).problems:
        return "an incomplete reasoning"
    return post_key(text, aspect, image), cot
