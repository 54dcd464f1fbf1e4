"""What MkDocs does beyond its own to build the site: equations, links that leave docs/, pages that are made.

The documents are read on GitHub, too: equations are fences named ``math`` there, and links to README, changelog and
code are relative paths.
"""

import ast
import os
import re
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

import parameter_tables
from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
# What is a page of its own, by its path in the repository.
PAGES = {"README.md": "index.md", "CHANGELOG.md": "changelog.md"}
_LINK = re.compile(r"(?P<text>\[[^\]]*\])\((?P<path>[^)#:\s]+)(?P<anchor>#[^)\s]*)?\)")
_FENCE = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Let fences named ``math`` become MathML, which browsers show without a script."""
    fence = {"name": "math", "class": "math", "format": _equation}
    config.mdx_configs["pymdownx.superfences"] = {"custom_fences": [fence]}
    return config


def _equation(source: str, *_: Any, **__: Any) -> str:
    return f'<div class="math">{convert(source, display="block")}</div>'


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made: README, changelog, parameters, and the files that documents link to."""
    for path, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / path).read_text()))
    files.append(File.generated(config, "reference/parameters.md", content=parameter_tables.page(ROOT / "conf")))
    linked = {
        target
        for file in list(files.documentation_pages())
        for match in _LINK.finditer(_without_fences(file.content_string))
        if (target := _outside(file.src_uri, match["path"])) is not None and target not in PAGES
    }
    for target in sorted(linked):
        files.append(File.generated(config, _page_of(target), content=_shown(target)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links that leave docs/ lead to the pages that stand for their files."""
    here = page.file.src_uri

    def link(match: re.Match[str]) -> str:
        path, anchor = match["path"], match["anchor"] or ""
        if here in PAGES.values() and (ROOT / path).is_relative_to(ROOT / "docs"):
            return f"{match['text']}({path.removeprefix('docs/')}{anchor})"
        target = _outside(here, path)
        if target is None:
            return match[0]
        named = re.fullmatch(r"\[`([\w.]+)`\]", match["text"])
        if target.endswith(".py") and named and not named[1].endswith(".py"):
            anchor = _anchor(target, named[1], here)
        return f"{match['text']}({os.path.relpath(_page_of(target), PurePosixPath(here).parent)}{anchor})"

    return "".join(part if part.startswith("```") else _LINK.sub(link, part) for part in _FENCE.split(markdown))


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Show what docstrings refer to, such as :meth:`load`, by its name alone."""
    return re.sub(r":(?:meth|func|class|mod|attr):<code>~?(.*?)</code>", r"<code>\1</code>", html)


def _without_fences(markdown: str) -> str:
    return _FENCE.sub("", markdown)


def _outside(page: str, path: str) -> str | None:
    """The file in the repository that a page links to, if it lies outside of docs/."""
    folder = ROOT if page in PAGES.values() else (ROOT / "docs" / page).parent
    target = Path(os.path.normpath(folder / path))
    if target.is_relative_to(ROOT / "docs") or not target.is_relative_to(ROOT):
        return None
    if not target.is_file():
        raise PluginError(f"{page} links to {path}, and there is no such file: correct the link")
    return target.relative_to(ROOT).as_posix()


def _page_of(target: str) -> str:
    """The page that shows a file of the repository."""
    return PAGES.get(target) or f"code/{PurePosixPath(target).with_suffix('.md').as_posix()}"


def _shown(target: str) -> str:
    """A page with a file: a module in parts, with a heading for each function and class; anything else as it is."""
    text = (ROOT / target).read_text()
    if target.endswith(".md"):
        return text
    title = f"# `{target}`\n\n"
    if not target.endswith(".py"):
        return f"{title}````{PurePosixPath(target).suffix.removeprefix('.')}\n{text}````\n"
    lines, begin, parts = text.splitlines(keepends=True), 0, []
    for name, first, last in _definitions(target):
        parts += [_code(lines[begin:first]), f"## `{name}` {{ #{name} }}\n\n", _code(lines[first:last])]
        begin = last
    return "".join([title, *parts, _code(lines[begin:])])


def _code(lines: list[str]) -> str:
    code = "".join(lines).strip("\n")
    return f"````python\n{code}\n````\n\n" if code else ""


def _anchor(target: str, name: str, page: str) -> str:
    """Where a function or class stands on the page of its module, by a name such as ``Loss`` or ``Loss.of``.

    Raises:
        PluginError: If the module defines no such name.
    """
    outer = name.partition(".")[0]
    if outer not in {defined for defined, _, _ in _definitions(target)}:
        raise PluginError(f"{page} links to `{name}` in {target}, which defines no such name: correct the link")
    return f"#{outer}"


@cache
def _definitions(target: str) -> list[tuple[str, int, int]]:
    """The functions and classes of a module, each with its first line, counted from 0, and the line behind its last."""
    return [
        (node.name, min([node.lineno, *(each.lineno for each in node.decorator_list)]) - 1, node.end_lineno or 0)
        for node in ast.parse((ROOT / target).read_text()).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    ]
