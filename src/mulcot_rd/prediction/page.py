"""The page of ``kedro demo``: a visitor gives a post, students give their verdicts and write their reasonings.

Text is never markup: whatever a visitor or a model writes is the content of a text box. One post is answered at a time,
others wait in line.
"""

from abc import ABCMeta
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.components.image import ImageData

from mulcot_rd.errors import UserError
from mulcot_rd.ingest.result import Candidate
from mulcot_rd.ingest.sample import read_rows
from mulcot_rd.prediction.reasoner import SentimentReasoner
from mulcot_rd.reasoning import SECTION_KEYS
from mulcot_rd.schema import Verdict

# A post of signs that a tokenizer does not know takes four tokens a sign, and memory grows with their square.
MAX_CHARACTERS = 2_000
MAX_UPLOAD = "10mb"
MAX_WAITING = 20
# An uploaded image is deleted when it is older than this, in seconds.
UPLOAD_AGE = 600
_EXAMPLES = 6

# What a student's column shows: probabilities, or the label alone; a status; the four sections.
Shown = tuple[dict[str, float] | str | None, str, str, str, str, str]


def _path(component: gr.Image, uploaded: ImageData | None) -> str | None:
    """The uploaded file: Gradio would open it by its own rules, and has no sentence for one that is no image."""
    return None if uploaded is None else uploaded.path


# A class statement would have Gradio write a stub file beside this module.
_UploadedImage = ABCMeta.__new__(
    type(gr.Image), "_UploadedImage", (gr.Image,), {"preprocess": _path, "is_template": True}
)


def newest_student(results: Path) -> Path:
    """The folder of the student that was trained last.

    Raises:
        UserError: If there is none.
    """
    # With versions, and without.
    places = ("student/*/student", "student")
    found = [path for place in places for path in results.glob(f"06_models/*/*/{place}/manifest.json")]
    newest = max(found, key=lambda path: path.stat().st_mtime, default=None)
    if newest is None:
        raise UserError(f"{results} holds no trained student: do kedro run first, or name one with --student FOLDER")
    return newest.parent


def title(folder: Path) -> str:
    """What a student is called on the page: its run and version, or the name of its folder."""
    return folder.as_posix().rpartition("/06_models/")[2] if "06_models" in folder.parts else folder.name


def examples(folder: Path) -> list[list[str | None]]:
    """Text, image and aspect of some test posts of a data set in the form of the shipped sample."""
    posts = [row.post for row in read_rows("sample", folder) if isinstance(row, Candidate) and row.post.split == "test"]
    return [[post.text, post.image, post.aspect] for post in posts[:_EXAMPLES]]


def answer(reasoner: SentimentReasoner, text: str, image: str | None, aspect: str) -> Iterator[Shown]:
    """What a student's column shows while it answers: its verdict so far, or one sentence on what is wrong.

    Args:
        reasoner: The student.
        text: The post.
        image: Path of its image, if it has one.
        aspect: What the sentiment is about; empty for the post as a whole.

    Yields:
        After every token, and at the end.
    """
    try:
        for name, given in (("post", text), ("aspect", aspect)):
            if len(given) > MAX_CHARACTERS:
                raise UserError(f"the {name} has {len(given):,} characters: shorten it to {MAX_CHARACTERS:,}")
        for verdict in reasoner.stream(text=text, image=image, aspect=aspect):
            yield _shown(verdict, "writing")
        yield _shown(verdict, summary(verdict))
    except UserError as error:
        message = str(error).removeprefix("post 0: ")
        # The visitor knows the file by its name.
        yield None, message.replace(image, Path(image).name) if image else message, "", "", "", ""


def summary(verdict: Verdict) -> str:
    """How a student decided, in one sentence."""
    sentence = f"The label is {verdict.label or 'missing'}"
    if verdict.agrees is not None:
        reason = verdict.reasoning_label or "none"
        sentence += ", and the reasoning agrees" if verdict.agrees else f", the reasoning gave {reason}"
    if verdict.attempts > 1:
        sentence += f"; the reasoning took {verdict.attempts} attempts"
    return f"{sentence}."


def build_page(students: Sequence[tuple[str, SentimentReasoner]], shown_examples: list[list[str | None]]) -> gr.Blocks:
    """The page, with a column for each student.

    Args:
        students: The students, each with the title of its column.
        shown_examples: Text, image and aspect of posts to choose from.
    """
    with gr.Blocks(title="MulCoT-RD", analytics_enabled=False, delete_cache=(60, UPLOAD_AGE)) as page, gr.Row():
        with gr.Column():
            text = gr.Textbox(label="Post", lines=3, max_lines=10)
            image = _UploadedImage(label="Image", sources=["upload", "clipboard"], height=260, buttons=[])
            aspect = gr.Textbox(label="Aspect (empty: the whole post)")
            ask = gr.Button("Ask", variant="primary")
            gr.Examples(shown_examples, [text, image, aspect])
        for title, reasoner in students:
            with gr.Column():
                shown = [gr.Label(label=title), gr.Textbox(label="Verdict")]
                shown += [gr.Textbox(label=key.replace("_", " ")) for key in SECTION_KEYS]
            ask.click(
                _answering(reasoner), [text, image, aspect], shown,
                concurrency_limit=1, concurrency_id="students", show_progress="minimal", api_visibility="private",
            )  # fmt: skip
    return page.queue(max_size=MAX_WAITING)


def serve(page: gr.Blocks, host: str, port: int) -> str:
    """Start to serve the page; ``page.block_thread()`` waits until it is interrupted.

    Args:
        page: The page.
        host: Address to listen on.
        port: Port to listen on.

    Returns:
        The page's address.

    Raises:
        UserError: If the page can't listen there.
    """
    try:
        _, address, _ = page.launch(
            server_name=host,
            server_port=port,
            max_file_size=MAX_UPLOAD,
            prevent_thread_lock=True,
            quiet=True,
            # Gradio's default fonts come from a foreign server.
            theme=gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"]),
            # It would keep in the browser what a visitor sends.
            run_history=False,
            footer_links=[],
            share=False,
            ssr_mode=False,
            enable_monitoring=False,
        )
    except OSError as error:
        raise UserError(
            f"the page can't listen on {host}:{port}: another program does, or the address is not this machine's; give "
            "another --port or --host"
        ) from error
    return address


def _answering(reasoner: SentimentReasoner) -> Callable[[str, str | None, str], Iterator[Shown]]:
    """:func:`answer` of one student; Gradio wants a generator function."""

    def answering(text: str, image: str | None, aspect: str) -> Iterator[Any]:
        yield from answer(reasoner, text, image, aspect)

    return answering


def _shown(verdict: Verdict, status: str) -> Shown:
    probabilities: Any = verdict.label
    if verdict.probabilities is not None:
        probabilities = {label.value: share for label, share in verdict.probabilities.items()}
    sections = verdict.text_analysis, verdict.image_analysis, verdict.conflict_resolution, verdict.final_conclusion
    return probabilities, status, *sections
