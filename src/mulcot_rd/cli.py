"""The project's command line: Kedro's own, with errors that a user can act on said in one sentence."""

import copy
import os
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import click
from kedro.framework.cli.project import project_group
from kedro.framework.cli.project import run as kedro_run

from mulcot_rd.checks import check_selection
from mulcot_rd.cli_options import in_one_sentence, project_folder, run_context, run_options, split_params
from mulcot_rd.cli_results import lineage, runs, versions
from mulcot_rd.credentials import Credentials
from mulcot_rd.errors import DryRunEnded, UserError
from mulcot_rd.extras import extra
from mulcot_rd.files import read_text
from mulcot_rd.messages import nearest
from mulcot_rd.yaml_reader import read_mapping

# The project's commands name --pipeline, the older spelling that every release of Kedro 1 knows.
warnings.filterwarnings("ignore", message=".*'--pipeline' is deprecated.*")


def read_recipe(context: click.Context, option: click.Parameter, path: str | None) -> str | None:
    """Take the options of ``--config FILE`` for those that are not given; names of parameters stay as typed."""
    if path is None:
        return None
    recipe = read_mapping(read_text(Path(path), UserError), path).get("run")
    if not isinstance(recipe, dict):
        raise UserError(f"{path}: it must have a mapping `run:` with options of kedro run")
    known = [one.name for one in kedro_run.params if one.name not in (None, "config")]
    for name, value in recipe.items():
        if name not in known:
            raise UserError(f"{path}: kedro run has no option {name}; {nearest(name, known)}")
        if isinstance(value, dict) and name != "params":
            raise UserError(f"{path}: {name} must be a value, or a list of values")
    context.default_map = {**(context.default_map or {}), **recipe}
    return path


def _interrupt(*_: Any) -> None:
    """Do as Ctrl-C does where a run is asked to end: answers of a teacher that are on their way are waited for."""
    # A shell has it ignored by what it runs in the background.
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        sys.exit(128 + signal.SIGTERM)
    signal.raise_signal(signal.SIGINT)


def _checked_run(**options: Any) -> Any:
    check_selection(options)
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        return cast(Callable[..., Any], kedro_run.callback)(**options)
    except DryRunEnded as ended:
        click.echo(str(ended))
        return None
    finally:
        signal.signal(signal.SIGTERM, before)


def _ours(option: click.Parameter) -> click.Parameter:
    """A copy of Kedro's option; what reads its value says in one sentence what is wrong with it."""
    option = copy.copy(option)
    reads = {"params": split_params, "config": read_recipe}.get(option.name, option.callback)
    option.callback = None if reads is None else in_one_sentence(reads)
    return option


run = copy.copy(kedro_run)
run.params = [_ours(option) for option in kedro_run.params]
run.callback = in_one_sentence(_checked_run)


def _end_cleanly_on_sigterm() -> None:
    """Let a command that is asked to end leave in order, and end what it has started, but wait for nothing."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


class LocalPath(click.Path):
    """A path of this machine; a URL would be taken for a folder of a strange name."""

    def __init__(self, *, dir_okay: bool = True) -> None:
        super().__init__(dir_okay=dir_okay, resolve_path=True, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Refuse a URL."""
        if "://" in str(value):
            self.fail(f"{value} is a URL: copy it to this machine and name the copy", param, ctx)
        return super().convert(value, param, ctx)


@click.group(cls=type(project_group), name="mulcot_rd")
def cli() -> None:
    """Commands of the project."""


@cli.command()
@click.argument("plan", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--force", is_flag=True, help="Do every run, also what is complete and up to date.")
@in_one_sentence
def experiments(plan: Path, force: bool) -> None:
    """Do the runs of PLAN, a YAML file such as .kedro/experiments/sample.yml, then make all reports.

    Runs that are complete and up to date are skipped, failed ones are reported while the rest goes on. A plan that
    was interrupted goes on where it stopped.
    """
    from mulcot_rd.experiments import as_table, execute, read_plan

    # The run that is under way ends with it, and keeps its checkpoints.
    _end_cleanly_on_sigterm()
    reports = execute(read_plan(plan), project_folder(), force=force)
    click.echo(as_table(reports))
    failed = sum(report.state == "failed" for report in reports)
    if failed:
        raise click.ClickException(f"{failed} of {len(reports)} failed; the same command does what is left")


_student = click.option(
    "--student",
    "folder",
    required=True,
    type=LocalPath(),
    help="Folder of a trained student, or of an assistant.",
)


@cli.command()
@click.argument("posts", type=LocalPath())
@_student
@click.option(
    "--output",
    required=True,
    type=LocalPath(dir_okay=False),
    help="File to write: JSON lines, CSV or Parquet, by its ending.",
)
@click.option(
    "--params",
    default="",
    callback=split_params,
    help="Parameters of generation and cluster, and the seed, such as generation.batch_size=48,cluster.workers=2.",
)
@in_one_sentence
def predict(posts: Path, folder: Path, output: Path, params: dict[str, Any]) -> None:
    """Judge the posts of POSTS, a CSV, JSONL or Parquet file with columns id, text, image, and aspect if there is one.

    POSTS may also be a folder of images, each with its text in a .txt of the same name.

    Each row gets a label, probabilities and a reasoning; one that can't be read gets the reason. docs/using.md has
    more.
    """
    from pydantic import ValidationError

    from mulcot_rd.prediction.predict import PredictionParameters, predict_posts
    from mulcot_rd.prediction.verdicts_file import write_verdicts

    try:
        parameters = PredictionParameters.model_validate(params)
    except ValidationError as error:
        refused = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
        raise UserError(f"parameters refused: {'; '.join(refused)}") from error
    served = parameters.generation.served.base_url
    api_key = _credentials("openai").api_key(served) if served else None
    rows = predict_posts(posts, folder, output, parameters, api_key)
    write_verdicts(rows, output)
    errors = sum(row["error"] is not None for row in rows)
    click.echo(f"{output}: {len(rows)} rows" + (f", {errors} of them with an error" if errors else ""))


@cli.command()
@_student
@click.argument("out", type=LocalPath())
@click.option("--adapter-only", is_flag=True, help="Write the adapter as peft has it, to load onto its base model.")
@click.option("--push", "repository", help="Upload OUT to this repository of the hub, such as user/student.")
@in_one_sentence
def export(folder: Path, out: Path, adapter_only: bool, repository: str | None) -> None:
    """Write a trained model with its adapter merged to OUT, a checkpoint that transformers and vLLM load.

    docs/serving.md says what is in it and how to serve it.
    """
    from mulcot_rd.models.evaluation import find_evaluation
    from mulcot_rd.models.export import export_model
    from mulcot_rd.models.hub import HubRepository

    # Whatever the hub refuses, it refuses before the work.
    hub = HubRepository(repository, _credentials("huggingface").get("token")) if repository else None
    export_model(folder, out, evaluation=find_evaluation(folder), adapter_only=adapter_only)
    click.echo(str(out))
    if hub is not None:
        click.echo(hub.upload(out))


def _credentials(name: str) -> Credentials:
    """An entry of the credentials, empty where there is none."""
    context, _ = run_context({}, None)
    return Credentials(context.config_loader["credentials"].get(name) or {})


@cli.command()
@run_options
@click.option(
    "--student",
    "folders",
    multiple=True,
    type=LocalPath(),
    help="Folder of a trained student, or one that `kedro export` wrote; by default the student that was trained last. "
    "Give two to see them side by side.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 is all of them.")
@click.option("--port", type=click.IntRange(1, 65535), default=7860, show_default=True, help="Port to listen on.")
@in_one_sentence
def demo(params: dict[str, Any], env: str | None, folders: tuple[Path, ...], host: str, port: int) -> None:
    """Open a page in which a student judges posts and writes its reasonings.

    It listens on this machine alone unless --host says otherwise. docs/demo.md says what it accepts.
    """
    # What visitors sent is deleted.
    _end_cleanly_on_sigterm()
    with TemporaryDirectory(prefix="mulcot-rd-demo-") as uploads:
        # Gradio reads it when it is imported.
        os.environ["GRADIO_TEMP_DIR"] = uploads
        with extra("demo"):
            from mulcot_rd.prediction.page import build_page, examples, newest_student, serve, title
        from mulcot_rd.prediction.reasoner import SentimentReasoner

        results = run_context(params, env)[0].params["results_root"]
        chosen = folders or [newest_student(Path(results).expanduser())]
        students = [(title(folder), SentimentReasoner.load(folder)) for folder in chosen]
        page = build_page(students, examples(Path("data/01_raw/sample")))
        click.echo(f"{serve(page, host, port)} is open; Ctrl-C ends it")
        page.block_thread()


@cli.group()
def ratings() -> None:
    """Human ratings of a run's reasonings: make a blind sheet, score what raters filled in."""


@ratings.command()
@run_options
@click.option(
    "--posts",
    "posts_rated",
    type=click.IntRange(min=1),
    default=30,
    show_default=True,
    help="Test posts to draw, at most.",
)
@in_one_sentence
def sheet(params: dict[str, Any], env: str | None, posts_rated: int) -> None:
    """Draw test posts and write a blind sheet of what teacher, assistant and student wrote of them."""
    from mulcot_rd.pipelines.posts import checked_posts
    from mulcot_rd.ratings import make_sheet, write_sheet

    context, folder = run_context(params, env)
    records = {"student_test": context.catalog.load("student_test")}
    # The evaluation of another run's student has no references, most variants no student after preferences.
    for name in ("teacher_references", "assistant_test", "student_preference_test"):
        if context.catalog.exists(name):
            records[name] = context.catalog.load(name)
    systems = {
        name.rpartition("_")[0]: {record.id: record.reasoning for record in rows}
        for name, rows in records.items()
        # A variant without reasonings has rows of labels alone.
        if any(record.attempts for record in rows)
    }
    posts = [post for post in checked_posts(context.catalog.load("posts"), records) if post.split == "test"]
    made = make_sheet(posts, systems, posts_rated=posts_rated, seed=context.params["run_settings"].seed)
    for path in write_sheet(*made, folder).values():
        click.echo(str(path))
    click.echo(
        "Give sheet.html to each rater (it saves a CSV), keep key.csv from them, then: kedro ratings score FILES"
    )


@ratings.command()
@run_options
@click.argument("files", nargs=-1, required=True, type=LocalPath())
@in_one_sentence
def score(params: dict[str, Any], env: str | None, files: tuple[Path, ...]) -> None:
    """Score FILES, the filled sheets, one a rater: means of each system, and how far the raters agree."""
    from mulcot_rd.files import write_json, write_text
    from mulcot_rd.ratings import evaluate_ratings
    from mulcot_rd.ratings.evaluate import agreement_frame, scores_frame
    from mulcot_rd.reporting.writers import to_markdown

    context, folder = run_context(params, env)
    result = evaluate_ratings(files, folder / "key.csv", seed=context.params["run_settings"].seed)
    tables = [to_markdown(scores_frame(result))]
    if result["agreement"]:
        tables.append(to_markdown(agreement_frame(result)))
    write_json(folder / "ratings.json", result)
    write_text(folder / "ratings.md", "\n\n".join(tables) + "\n")
    click.echo("\n\n".join(tables))


for command in (run, lineage, runs, versions):
    cli.add_command(command)
