"""A file or a folder of posts to judge, row by row: one that can't be read costs itself alone."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from mulcot_rd.errors import UserError
from mulcot_rd.files import read_bytes, read_text
from mulcot_rd.images import image_problems
from mulcot_rd.ingest.lines import MISSING, comma_separated
from mulcot_rd.models.inputs import InputEncoder
from mulcot_rd.prediction.contents import fault, image_path, is_missing, type_fault
from mulcot_rd.prediction.verdicts_file import check_format
from mulcot_rd.schema import PostContent

# Parts the aspects of a row.
_SEPARATOR = "|"
_COLUMNS = ("id", "text", "image", "aspect", "caption")


class RowToJudge(NamedTuple):
    """A post and one aspect of it, as a row of the file names it, or a file of the folder.

    Attributes:
        place: Where it stands in the file, or the file's name.
        id: The post's id, empty where it could not be read.
        aspect: The aspect, or ``None``.
        content: What the model reads; its id is its own. ``None`` where the row can't be used.
        error: Why not.
    """

    place: str
    id: str
    aspect: str | None
    content: PostContent | None
    error: str | None


def read_rows(path: Path, encoder: InputEncoder) -> list[RowToJudge]:
    """Read a file of posts: columns ``id``, ``text``, ``image``, and ``aspect`` or ``caption`` where there are any.

    Of a folder, every image is a post, with the text in the ``.txt`` of its name; so is a ``.txt`` without an image. A
    post's id is the name of its file. Other files, and folders in the folder, are not looked at.

    A row with several aspects, parted by ``|``, becomes one row for each. Images are opened; a relative path begins in
    the file's folder. Columns for what the model does not read may be missing, and others are ignored; letter case does
    not matter in their names.

    Args:
        path: The file, whose ending says what it is; or the folder.
        encoder: Knows what the model reads.

    Returns:
        Every row, in the order of the file, or of the names in the folder.

    Raises:
        UserError: If the file can't be read as a whole, or lacks a column; if the folder holds no post.
    """
    if path.is_dir():
        folder, records = path, _in_folder(path)
    else:
        check_format(path, "POSTS")
        folder, records = path.parent, _records(path, ("id", *encoder.reads))
    found: list[RowToJudge] = []
    taken: set[str] = set()
    for place, record, damage in records:
        values, problem = _values(record)
        problem = damage or problem or (None if values.get("id") else "empty id")
        for aspect in _aspects(values.get("aspect")):
            content, error = None, problem
            if error is None:
                content, error = _content({**values, "aspect": aspect}, folder, encoder, taken)
            found.append(RowToJudge(place, _shown(values.get("id")) or "", _shown(aspect), content, _shown(error)))
    images = [row.content.image for row in found if row.content is not None and row.content.image is not None]
    problems = image_problems(images, f"opening images of {path.name}")
    return [_with_image(row, problems) for row in found]


def _records(path: Path, columns: Sequence[str]) -> Iterator[tuple[str, Mapping[str, Any], str | None]]:
    """The place of each row, its values by column, and what is wrong with it as such."""
    kind = path.suffix.lower()
    if kind == ".csv":
        for line, values, damage in comma_separated(path, columns, optional=_COLUMNS, by_row=True):
            yield f"line {line}", values, damage
    elif kind == ".jsonl":
        for number, row in enumerate(read_bytes(path, UserError).split(b"\n"), start=1):
            if row.strip():
                yield f"line {number}", *_from_json(row)
    else:
        try:
            table = pq.read_table(path)
        except (OSError, pa.ArrowException) as error:
            raise UserError(f"{path} can't be read as Parquet ({type(error).__name__}): check the file") from error
        names = [_column(name) for name in table.column_names]
        if missing := [name for name in columns if name not in names]:
            raise UserError(f"{path}: column {', '.join(missing)} missing; add it")
        if problem := _twice(names):
            raise UserError(f"{path}: {problem}")
        kept = table.rename_columns(names).select([name for name in _COLUMNS if name in names])
        for number, record in enumerate(kept.to_pylist(), start=1):
            yield f"row {number}", record, None


def _column(name: str) -> str:
    """The name of a column: as in a CSV file, letter case and white space around it don't matter."""
    return name.strip().lower()


def _twice(names: Sequence[str]) -> str | None:
    """What is wrong with the names of columns if a known one is among them twice."""
    twice = next((name for name in _COLUMNS if names.count(name) > 1), None)
    return None if twice is None else f"column {twice} stands twice; keep one of them"


def _in_folder(folder: Path) -> Iterator[tuple[str, Mapping[str, Any], str | None]]:
    """As :func:`_records`, of a folder of images with texts."""
    suffixes = Image.registered_extensions()
    names = sorted(path.name for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    images = [name for name in names if Path(name).suffix.lower() in suffixes]
    texts = {Path(name).stem: name for name in names if Path(name).suffix.lower() == ".txt"}
    alone = [name for stem, name in texts.items() if stem not in {Path(image).stem for image in images}]
    if not (images or alone):
        raise UserError(f"{folder} holds no image and no .txt: name a folder of images, or a file of posts")
    for name in sorted([*images, *alone]):
        text, damage = None, None
        if (beside := texts.get(Path(name).stem)) is not None:
            try:
                text = read_text(folder / beside, UserError)
            except UserError as error:
                damage = str(error)
        yield name, {"id": name, "text": text, "image": None if name in alone else name}, damage


def _from_json(line: bytes) -> tuple[dict[str, Any], str | None]:
    try:
        record = json.loads(line.decode())
    except UnicodeDecodeError:
        return {}, "not UTF-8"
    except (ValueError, RecursionError) as error:
        return {}, f"not valid JSON ({error})"
    if not isinstance(record, dict):
        return {}, "not a JSON object"
    return {_column(name): value for name, value in record.items()}, _twice([_column(name) for name in record])


def _values(record: Mapping[str, Any]) -> tuple[dict[str, str], str | None]:
    """The values of known columns that are there, and what is wrong with the first that is no text."""
    values: dict[str, str] = {}
    for name in _COLUMNS:
        value: Any = record.get(name)
        if name == "id" and isinstance(value, int):
            value = str(value)
        if is_missing(value):
            continue
        if problem := type_fault(name, value):
            return values, problem
        if value.strip() and value.strip() not in MISSING:
            values[name] = value.strip()
    return values, None


def _aspects(given: str | None) -> list[str | None]:
    return [aspect.strip() for aspect in (given or "").split(_SEPARATOR) if aspect.strip()] or [None]


def _content(
    values: Mapping[str, str | None], folder: Path, encoder: InputEncoder, taken: set[str]
) -> tuple[PostContent | None, str | None]:
    """A post as the model reads it, under an id that no other row has; or what is wrong with it."""
    if problem := fault(values, encoder):
        return None, problem
    image = values.get("image") if "image" in encoder.reads else None
    if image is not None:
        try:
            image = image_path(image, folder)
        except UserError as error:
            return None, str(error)
    wanted = own = str(values["id"])
    number = 1
    while own in taken:
        number += 1
        own = f"{wanted} ({number})"
    content = PostContent(
        id=own, text=values.get("text") or "", aspect=values["aspect"], image=image, caption=values.get("caption")
    )
    if encoder.family.longest_text is not None:
        try:
            # The encoder of such a family reads the same text for every task.
            encoder.prompt(content, "label")
        except UserError as error:
            return None, str(error)
    taken.add(own)
    return content, None


def _with_image(row: RowToJudge, problems: Mapping[str, str | None]) -> RowToJudge:
    """The row; without content and with the reason where its image can't be opened."""
    problem = problems.get(str(row.content.image)) if row.content is not None else None
    return row if problem is None else row._replace(content=None, error=problem)


def _shown(text: str | None) -> str | None:
    """Text that any file can hold."""
    return None if text is None else text.encode(errors="replace").decode()
