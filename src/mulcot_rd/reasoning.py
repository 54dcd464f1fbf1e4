"""The response format of the paper: write it, read it. The prompts show it; no other module reads or writes it.

A reasoning answer has five parts, in this order, each ``"Key": "text"`` on a line of its own::

    "Text_analysis": "..."
    "Image_analysis": "..."
    "Conflict_resolution": "..."
    "Final_conclusion": "..."
    "Prediction": positive

A label answer has the last line alone. Large models answer in looser forms too (JSON objects, Markdown
headings, unescaped quotes); :func:`parse` reads those, and never lets text that is quoted inside a
section, from a post say, pass for a section of the answer.
"""

import json
import re
from bisect import bisect
from functools import cache
from typing import Any

from mulcot_rd.schema import Reasoning, Sentiment

SECTION_KEYS = ("Text_analysis", "Image_analysis", "Conflict_resolution", "Final_conclusion")
PREDICTION_KEY = "Prediction"
# As an answer has them: a key in quotes and its colon.
QUOTED_KEYS = tuple(f'"{key}":' for key in (*SECTION_KEYS, PREDICTION_KEY))
# How the answer of each task begins; the forced prefix of a decoder's branch.
ANSWER_PREFIXES = {"label": QUOTED_KEYS[-1], "reasoning": QUOTED_KEYS[0]}

_ORDER = (*SECTION_KEYS, PREDICTION_KEY)
_LABEL = re.compile(r"\b(positive|neutral|negative)\b", re.IGNORECASE)
_WORD_PREDICTION = re.compile(r"\bprediction\b", re.IGNORECASE)
_QUOTED_PREDICTION = re.compile(r"\bprediction\b[^a-z]{0,8}(?:positive|neutral|negative)\b", re.IGNORECASE)
_KEY_WORDS = "|".join(key.replace("_", "[ _]") for key in _ORDER)
# A key in quotes and its colon: `"Text_analysis":`, with Markdown stars around it or not.
_QUOTED_KEY = re.compile(
    rf'(?<![*`])[*`]*+["“][*`]*(?P<key>{_KEY_WORDS})[*`]*["”][*`]*[ \t]*[:：][*`]*[ \t]*', re.IGNORECASE
)
# A key that opens a line: a heading, a bold word or a plain word, ended by a colon or the line's end.
_LINE_KEY = re.compile(
    rf'^[ \t>]*(?:[#*_`-]+[ \t]*)*+(?:(?:step[ \t]*)?\d[.):][ \t]*)?[*_`"“”\']*(?P<key>{_KEY_WORDS})[*_`"“”\']*'
    r"(?:[ \t]*[:：][*_`]*[ \t]*|[ \t]*$)",
    re.IGNORECASE | re.MULTILINE,
)
# A label and nothing more: marks before it, and behind it the end of the line, of the value or of the sentence.
_LABEL_ALONE = re.compile(r"""[\W_]*(?:positive|neutral|negative)\b["”'*`_]*[ \t]*(?:$|[\n,.;!)}\](])""", re.IGNORECASE)
# A last line that gives the label under another name, or with another sign than a colon.
_LABEL_LINE = re.compile(
    r"(?<!\s)\s*\n[^\w\n]*+(?:final[ _]|overall[ _])?(?:sentiment|prediction|label|verdict|answer)\b\W*+(?:is\b\W*+)?"
    r"(?:positive|neutral|negative)\W*$",
    re.IGNORECASE,
)
_OPENING, _CLOSING = ('"', "“"), ('"', "”")
# Half of a pair, as a text has it that was cut there: no file takes it.
LONE_SURROGATE = re.compile("[\ud800-\udfff]")
# What a thinking model's answer begins with, where its prompt or its server does not say it already.
THOUGHTS_BEGIN = "<think>"
_THOUGHTS = re.compile(r"<(?P<end>/?)think(?:ing)?>", re.IGNORECASE)
_FENCE = re.compile(r"^\s*```[a-z]*\s*|(?<!\s)\s*```\s*$", re.IGNORECASE)


def write(reasoning: Reasoning) -> str:
    """The training target of the reasoning task: four quoted sections and the label, a line each.

    Raises:
        ValueError: If a section is empty or the label is missing; an incomplete target is never trained on.
    """
    if reasoning.problems:
        raise ValueError(f"an incomplete reasoning can't be written: {'; '.join(reasoning.problems)}")
    lines = [
        f'"{key}": {json.dumps(text, ensure_ascii=False)}'
        for key, text in zip(SECTION_KEYS, reasoning.sections.values(), strict=True)
    ]
    return "\n".join([*lines, write_label(reasoning.prediction)])


def write_label(label: Sentiment | None) -> str:
    """The training target of the label task: the line ``"Prediction": <label>`` alone."""
    if label is None:
        raise ValueError("a label target needs a label")
    return f'"{PREDICTION_KEY}": {label.value}'


@cache
def json_schema(told_label: Sentiment | None = None) -> dict[str, Any]:
    """The format as a JSON schema, for servers that can hold a model to one; :func:`parse` reads such objects.

    Args:
        told_label: The only label allowed, or ``None`` for all three.

    Returns:
        A schema that every caller shares; it is not to be changed.
    """
    labels = [label.value for label in ([told_label] if told_label is not None else Sentiment)]
    properties: dict[str, Any] = {key: {"type": "string"} for key in SECTION_KEYS}
    properties[PREDICTION_KEY] = {"type": "string", "enum": labels}
    return {"type": "object", "properties": properties, "required": list(_ORDER), "additionalProperties": False}


def parse(text: str) -> Reasoning:
    """Read an answer to either prompt. Sections that are absent come back empty, an unreadable label as ``None``.

    The label is the first of positive, neutral, negative in the answer's own Prediction section. An answer
    without that section and without its word is read by the last of the three words in it. A Prediction that
    is quoted inside another section is text of that section and does not count.

    Args:
        text: Any text at all; nothing in it makes this function raise.
    """
    body = _FENCE.sub("", without_thoughts(text))
    found, rest = _from_json(body), ""
    if found is None:
        found, rest = _from_markers(body)
    # Half of an emoji's escape is a character that no file can hold.
    found = {key: LONE_SURROGATE.sub("\N{REPLACEMENT CHARACTER}", value) for key, value in found.items()}
    # A section without a letter or digit is the template's own "...".
    sections = {key.lower(): found.get(key, "") for key in SECTION_KEYS}
    sections = {key: value if any(map(str.isalnum, value)) else "" for key, value in sections.items()}
    return Reasoning(**sections, prediction=_read_label(body, found, rest))


def without_thoughts(text: str) -> str:
    """What follows a thinking model's thoughts, whatever draft is in them; nothing where they never end.

    Thoughts begin the text. An end tag ends them if an opening tag or no key of the format stands before it. Behind a
    draft it does so only where one whole answer follows: an answer that quotes a post's tag has further keys there.
    """
    tags = list(_THOUGHTS.finditer(text))
    if not tags:
        return text
    found = {match.start("key"): match["key"] for kind in (_QUOTED_KEY, _LINE_KEY) for match in kind.finditer(text)}
    places = sorted(found)
    keys = [_canonical(found[place]) for place in places]
    opened, start = False, 0
    for tag in tags:
        here = bisect(places, tag.start())
        before, after = keys[bisect(places, start) : here], keys[here:]
        if not tag["end"]:
            opened = opened or not before
        elif opened or not before or (len(after) == len(_ORDER) and set(after) == set(_ORDER)):
            opened, start = False, tag.end()
    return "" if opened else text[start:]


def _text_of(value: Any) -> str:
    """The texts in a JSON value, in order."""
    texts: list[str] = []
    open_ones = [value]
    while open_ones:
        item = open_ones.pop()
        if isinstance(item, dict):
            open_ones.extend(reversed(item.values()))
        elif isinstance(item, list):
            open_ones.extend(reversed(item))
        elif item is not None:
            texts.append(str(item))
    return " ".join(texts)


def _from_json(body: str) -> dict[str, str] | None:
    """The sections of an answer that is one JSON object, or ``None`` where it is none or holds none."""
    start, end = body.find("{"), body.rfind("}")
    if not 0 <= start < end or body[:start].strip():
        return None
    try:
        value = json.loads(body[start : end + 1], strict=False)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    named = {_canonical(str(key)): _text_of(item).strip() for key, item in value.items() if item is not None}
    return {key: item for key, item in named.items() if key in _ORDER} or None


def _from_markers(body: str) -> tuple[dict[str, str], str]:
    """The sections of an answer by the keys that stand where the format allows a key, and what follows the last one.

    Keys are taken from left to right in the order of the format, so a key quoted inside a section can only
    be mistaken for the one that follows; inside a quoted section a key counts only behind a closing quote.
    """
    markers = _markers(body)
    # Keys marked up as the first one, where those make a whole answer: others are quoted.
    signs = [re.sub(r"[\w\s]", "", body[start:end]) for _, start, end in markers]
    alike = [marker for marker, sign in zip(markers, signs, strict=True) if sign == signs[0]]
    if {key for key, _, _ in alike} == set(_ORDER):
        markers = alike
    chosen: list[tuple[str, int, int]] = []
    position = 0
    for index, key in enumerate(_ORDER):
        following = [m for m in markers if m[0] == key and m[1] >= position]
        if key == PREDICTION_KEY and not following and chosen:
            # Some models put the label first: one before every section is the answer's own too.
            ahead = [m for m in markers if m[0] == key and m[1] < chosen[0][1]]
            if ahead:
                chosen.insert(0, ahead[0])
            break
        if key != PREDICTION_KEY and following:
            # A key behind a later section is that section's text unless the order is simply shuffled.
            later = [m for m in markers if m[1] >= position and _ORDER.index(m[0]) > index]
            later = [m for m in later if m[0] != PREDICTION_KEY]
            if later and later[0][1] < following[0][1] and chosen:
                continue
        if key == PREDICTION_KEY and chosen and following:
            following = _own_prediction(body, following, markers, chosen[-1][2])
        if following:
            chosen.append(following[0])
            position = following[0][2]
    found: dict[str, str] = {}
    ends = [start for _, start, _ in chosen[1:]] + [len(body)]
    for (key, _, start), end in zip(chosen, ends, strict=False):
        found[key] = _value(_LABEL_LINE.sub("", body[start:end]) if key == SECTION_KEYS[-1] else body[start:end])
    last = body[chosen[-1][2] :].lstrip() if chosen else ""
    return found, re.split('["”]', last)[-1] if last.startswith(_OPENING) else ""


def _own_prediction(
    body: str, candidates: list[tuple[str, int, int]], markers: list[tuple[str, int, int]], last_section: int
) -> list[tuple[str, int, int]]:
    """Which Prediction is the answer's own, of those behind the start of its last section: at most one.

    That section may quote others. Behind its closing quote, the first with a label alone counts. Without such quotes,
    one that more prose follows gives way to a later one. With prose on its own line, one counts only at a line's start
    and outside an open quote.
    """
    restart = min((m[1] for m in markers if m[0] == SECTION_KEYS[0] and m[1] > candidates[0][1]), default=len(body))
    candidates = [candidate for candidate in candidates if candidate[1] < restart]
    chosen: tuple[str, int, int] | None = None
    end = 0
    for candidate in candidates:
        alone = _LABEL_ALONE.match(body, candidate[2])
        if alone is None or (chosen is not None and not re.search(r"\w", body[end : candidate[1]])):
            continue
        chosen, end = candidate, alone.end()
        if _closed(body[last_section : candidate[1]]):
            break
    if chosen is not None:
        return [chosen]
    first = candidates[0]
    opens_line = not body[body.rfind("\n", 0, first[1]) + 1 : first[1]].strip()
    before = body[last_section : first[1]]
    return [first] if opens_line and (_closed(before) or not before.startswith(_OPENING)) else []


def _closed(value: str) -> bool:
    """Whether a quoted value ends with its closing quote."""
    ending = value[1:].rstrip(" \t\r\n,*`}")
    return value.startswith(_OPENING) and ending.endswith(_CLOSING) and not ending.endswith('\\"')


def _markers(body: str) -> list[tuple[str, int, int]]:
    """Every place where a key may stand: (canonical key, start, start of its value), from left to right."""
    places: dict[int, tuple[str, int, int]] = {}
    for match in _LINE_KEY.finditer(body):
        places[match.end()] = (_canonical(match["key"]), match.start(), match.end())
    for match in _QUOTED_KEY.finditer(body):
        if match.end() not in places:
            before = body[max(0, match.start() - 64) : match.start()].rstrip()
            if not before or before.endswith(("{", ",", "}", "]", *_CLOSING)):
                places[match.end()] = (_canonical(match["key"]), match.start(), match.end())
    kept: list[tuple[str, int, int]] = []
    for key, start, end in sorted(places.values(), key=lambda place: place[1]):
        if kept and _inside_open_quote(body, kept[-1][2], start):
            continue
        kept.append((key, start, end))
    return kept


def _inside_open_quote(body: str, value_start: int, position: int) -> bool:
    """Whether the quoted value that starts at ``value_start`` is still open at ``position``.

    A value counts as open only where it does close later on: an answer that forgets its quotes is still read.
    """
    value = body[value_start:position]
    if not value.startswith(_OPENING) or _closed(value):
        return False
    rest = body[position:]
    return re.search(rf'(?<!\\)["”]\s*+(?:,\s*+)?[*`]*+["“](?:{_KEY_WORDS})["”]', rest, re.IGNORECASE) is not None


def _value(raw: str) -> str:
    """A section's text without its quotes, trailing comma, braces and Markdown rule."""
    value = raw.strip().strip("`").strip()
    value = re.sub(r"(?<!\s)\s*\}\s*$", "", value) if value.count("{") < value.count("}") else value
    value = value.rstrip().removesuffix(",").rstrip()
    value = re.sub(r"(?<!\s)\s*(?:[{(\[]|(?<!-)-{3,}|(?<![#*])[#*]+)$", "", value)
    if len(value) >= 2 and value[0] == value[-1] == '"':
        try:
            return str(json.loads(value, strict=False)).strip()
        except ValueError:
            return value[1:-1].strip()
    return value.strip('"“”').strip()


def _read_label(body: str, found: dict[str, str], rest: str) -> Sentiment | None:
    if PREDICTION_KEY in found:
        return _first_label(found[PREDICTION_KEY])
    has_sections = any(key in found for key in SECTION_KEYS)
    # Where there are sections, the word counts only behind the last one's closing quote: inside it may be quoted.
    open_text = rest if has_sections else body
    word = _WORD_PREDICTION.search(open_text)
    if word is not None:
        return _first_label(open_text[word.end() :])
    labels = _LABEL.findall(_QUOTED_PREDICTION.sub(" ", body))
    return Sentiment(labels[-1].lower()) if labels else None


def _first_label(text: str) -> Sentiment | None:
    match = _LABEL.search(text)
    return Sentiment(match.group().lower()) if match else None


def _canonical(key: str) -> str:
    return key.strip().replace(" ", "_").capitalize()
