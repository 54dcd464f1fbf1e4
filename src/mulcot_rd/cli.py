"""The project's command line: Kedro's own, with errors that a user can act on said in one sentence."""

import copy
import functools
import logging
import os
import re
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from kedro.framework.cli.project import PARAMS_ARG_HELP, project_group
from kedro.framework.cli.project import run as kedro_run
from kedro.framework.context import KedroContext
from kedro.framework.session import KedroSession
from kedro.utils import find_kedro_project
from omegaconf import OmegaConf

from mulcot_rd.checks import check_selection
from mulcot_rd.errors import DryRunEnded, UserError
from mulcot_rd.files import read_text
from mulcot_rd.messages import is_users, nearest, one_sentence
from mulcot_rd.yaml_reader import read_mapping, typed_value

logger = logging.getLogger(__name__)

# The project's commands name --pipeline, the older spelling that every release of Kedro 1 knows.
warnings.filterwarnings("ignore", message=".*'--pipeline' is deprecated.*")


def _in_one_sentence(command: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except Exception as error:
            if not is_users(error):
                raise
            logger.debug("the error in full", exc_info=error)
            raise click.ClickException(one_sentence(error)) from error

    return run


def split_params(context: click.Context, option: click.Parameter, value: str | dict[str, Any] | None) -> dict[str, Any]:
    """What ``--params`` gives: ``name=value``, separated by commas that are in no brackets; text stays as typed."""
    if value is None or isinstance(value, dict):
        return value or {}
    if not isinstance(value, str):
        raise click.BadParameter(f"{value!r} must be a mapping, or text such as NAME=VALUE", context, option)
    given = OmegaConf.create()
    for item in re.split(r",(?![^\[\]]*\])", value):
        name, equals, typed = item.partition("=")
        if not equals and not item.strip():
            continue
        if not equals or not name.strip():
            raise click.BadParameter(f"{item.strip()!r} must be NAME=VALUE", context, option)
        OmegaConf.update(given, name.strip(), typed_value(name.strip(), typed))
    return OmegaConf.to_container(given)


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


def _checked_run(**options: Any) -> Any:
    check_selection(options)
    try:
        return kedro_run.callback(**options)
    except DryRunEnded as ended:
        click.echo(str(ended))
        return None


def _ours(option: click.Parameter) -> click.Parameter:
    """A copy of Kedro's option; what reads its value says in one sentence what is wrong with it."""
    option = copy.copy(option)
    reads = {"params": split_params, "config": read_recipe}.get(option.name, option.callback)
    option.callback = None if reads is None else _in_one_sentence(reads)
    return option


run = copy.copy(kedro_run)
run.params = [_ours(option) for option in kedro_run.params]
run.callback = _in_one_sentence(_checked_run)


@click.group(cls=type(project_group), name="mulcot_rd")
def cli() -> None:
    """Commands of the project."""


@cli.command()
@click.argument("plan", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--force", is_flag=True, help="Do every run, also what is complete and up to date.")
@_in_one_sentence
def experiments(plan: Path, force: bool) -> None:
    """Do the runs of PLAN, a YAML file such as .kedro/experiments/sample.yml, then make all reports.

    Runs that are complete and up to date are skipped, failed ones are reported while the rest goes on. A plan that
    was interrupted goes on where it stopped.
    """
    from mulcot_rd.experiments import as_table, execute, read_plan

    # Asked to end, it ends the run that is under way with it, as Ctrl-C does; the run keeps its checkpoints.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    reports = execute(read_plan(plan), _project(), force=force)
    click.echo(as_table(reports))
    failed = sum(report.state == "failed" for report in reports)
    if failed:
        raise click.ClickException(f"{failed} of {len(reports)} failed; the same command does what is left")


_student = click.option(
    "--student",
    "folder",
    required=True,
    type=click.Path(resolve_path=True, path_type=Path),
    help="Folder of a trained student, or of an assistant.",
)


@cli.command()
@click.argument("posts", type=click.Path(dir_okay=False, resolve_path=True, path_type=Path))
@_student
@click.option(
    "--output",
    required=True,
    type=click.Path(dir_okay=False, resolve_path=True, path_type=Path),
    help="File to write: JSON lines, CSV or Parquet, by its ending.",
)
@click.option(
    "--params",
    default="",
    callback=split_params,
    help="Parameters of generation and cluster, and the seed, such as generation.batch_size=48,cluster.workers=2.",
)
@_in_one_sentence
def predict(posts: Path, folder: Path, output: Path, params: dict[str, Any]) -> None:
    """Judge the posts of POSTS, a CSV, JSONL or Parquet file with columns id, text, image, and aspect if there is one.

    Each row gets a label, probabilities and a reasoning; one that can't be read gets the reason. docs/using.md has
    more.
    """
    from pydantic import ValidationError

    from mulcot_rd.prediction.predict import PredictionParameters, predict_file

    try:
        parameters = PredictionParameters.model_validate(params)
    except ValidationError as error:
        refused = [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
        raise UserError(f"parameters refused: {'; '.join(refused)}") from error
    rows, errors = predict_file(posts, folder, output, parameters)
    click.echo(f"{output}: {rows} rows" + (f", {errors} of them with an error" if errors else ""))


@cli.command()
@_student
@click.argument("out", type=click.Path(resolve_path=True, path_type=Path))
@_in_one_sentence
def export(folder: Path, out: Path) -> None:
    """Write a trained model with its adapter merged to OUT, a checkpoint that transformers and vLLM load.

    docs/serving.md says how to serve it.
    """
    from mulcot_rd.models.export import merge_model

    merge_model(folder, out)
    click.echo(str(out))


@cli.group()
def ratings() -> None:
    """Human ratings of a run's reasonings: make a blind sheet, score what raters filled in."""


def _run_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that name a run, as `kedro run` has them."""
    command = click.option("--env", "-e", default=None, help="Kedro configuration environment.")(command)
    return click.option("--params", default="", help=PARAMS_ARG_HELP, callback=split_params)(command)


@ratings.command()
@_run_options
@click.option(
    "--posts",
    "posts_rated",
    type=click.IntRange(min=1),
    default=30,
    show_default=True,
    help="Test posts to draw, at most.",
)
@_in_one_sentence
def sheet(params: dict[str, Any], env: str | None, posts_rated: int) -> None:
    """Draw test posts and write a blind sheet of what teacher, assistant and student wrote of them."""
    from mulcot_rd.pipelines.posts import checked_posts
    from mulcot_rd.ratings import make_sheet, write_sheet

    context, folder = _run_context(params, env)
    records = {name: context.catalog.load(name) for name in ("teacher_references", "assistant_test", "student_test")}
    systems = {
        name.partition("_")[0]: {record.id: record.reasoning for record in rows}
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
@_run_options
@click.argument("files", nargs=-1, required=True, type=click.Path(resolve_path=True, path_type=Path))
@_in_one_sentence
def score(params: dict[str, Any], env: str | None, files: tuple[Path, ...]) -> None:
    """Score FILES, the filled sheets, one a rater: means of each system, and how far the raters agree."""
    from mulcot_rd.files import write_json, write_text
    from mulcot_rd.ratings import evaluate_ratings
    from mulcot_rd.ratings.evaluate import agreement_frame, scores_frame
    from mulcot_rd.reporting.writers import to_markdown

    context, folder = _run_context(params, env)
    result = evaluate_ratings(files, folder / "key.csv", seed=context.params["run_settings"].seed)
    tables = [to_markdown(scores_frame(result))]
    if result["agreement"]:
        tables.append(to_markdown(agreement_frame(result)))
    write_json(folder / "ratings.json", result)
    write_text(folder / "ratings.md", "\n\n".join(tables) + "\n")
    click.echo("\n\n".join(tables))


@cli.command()
@_run_options
@click.argument("version", required=False)
@_in_one_sentence
def lineage(params: dict[str, Any], env: str | None, version: str | None) -> None:
    """Print what VERSION was made from, back to the posts.

    VERSION is one of the run's metrics, the newest if it is left out, or NAME:VERSION of another dataset.
    """
    from mulcot_rd.lineage import lineage as chain

    name, _, chosen = (version or "").rpartition(":")
    context, _ = _run_context(params, env)
    chosen = chosen or context.catalog.get("metrics").resolve_load_version()
    for line in chain(context.catalog, name or "metrics", chosen):
        click.echo(line)


@cli.command()
@_run_options
@click.argument("pair", nargs=-1, metavar="[A B]")
@_in_one_sentence
def runs(params: dict[str, Any], env: str | None, pair: tuple[str, ...]) -> None:
    """List every run that has metrics, in every version, or put two side by side.

    A and B are DATASET/RUN, the newest version of it, or DATASET/RUN:VERSION.
    """
    from mulcot_rd.hooks import changed_from_defaults
    from mulcot_rd.reporting.run_list import runs_on_disk, runs_table, two_runs
    from mulcot_rd.reporting.writers import to_markdown

    if len(pair) not in (0, 2):
        raise UserError("kedro runs takes two runs, as DATASET/RUN, or none")
    context, _ = _run_context(params, env)
    found = runs_on_disk(context.catalog)
    if not found:
        raise UserError("no run has metrics yet: the pipeline evaluation writes them")
    shown = two_runs(found, *pair) if pair else runs_table(found, changed_from_defaults(context.config_loader))
    click.echo(to_markdown(shown))


@cli.command()
@_run_options
@click.option("--remove", is_flag=True, help="Remove the versions that nothing needs, after a question.")
@_in_one_sentence
def versions(params: dict[str, Any], env: str | None, remove: bool) -> None:
    """List all versions: how much their removal frees, and how many others were made from each.

    The newest version of everything is needed, and so is what it was made from.
    """
    from mulcot_rd import housekeeping

    context, _ = _run_context(params, env)
    there = housekeeping.stored_versions(context.catalog)
    for one in there:
        state = "needed" if one.needed else "not needed"
        click.echo(f"{one.size / 1e6:12.3f} MB  {state:<10}  {len(one.referred_by):3} made from it  {one.name}")
    spare = [one for one in there if not one.needed]
    freed = sum(one.size for one in spare) / 1e6
    click.echo(f"{len(there)} versions; nothing needs {len(spare)} of them, {freed:.3f} MB")
    if remove and spare:
        click.confirm(f"Remove these {len(spare)} versions? No run may be going on", abort=True)
        housekeeping.remove(context.catalog, spare)


def _project() -> Path:
    """The project's folder, from any folder of it."""
    return Path(find_kedro_project(Path.cwd()) or Path.cwd())


def _run_context(params: dict[str, Any], env: str | None) -> tuple[KedroContext, Path]:
    """The context of a run, and the folder of its ratings."""
    project = _project()
    # Relative paths of parameters are those of the project.
    os.chdir(project)
    with KedroSession.create(project_path=project, env=env, runtime_params=params) as session:
        context = session.load_context()
    run = context.params["run_settings"]
    return context, project / run.data_root / "08_reporting" / run.dataset / run.name / "ratings"


cli.add_command(run)
