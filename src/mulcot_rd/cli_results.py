"""Commands about results: what each was made from, runs side by side, versions and their removal."""

from typing import Any

import click

from mulcot_rd.cli_options import in_one_sentence, run_context, run_options
from mulcot_rd.errors import UserError


@click.command()
@run_options
@click.argument("version", required=False)
@in_one_sentence
def lineage(params: dict[str, Any], env: str | None, version: str | None) -> None:
    """Print what VERSION was made from, back to the posts.

    VERSION is one of the run's metrics, the newest if it is left out, or NAME:VERSION of another dataset.
    """
    from mulcot_rd.lineage import lineage as chain

    name, _, chosen = (version or "").rpartition(":")
    context, _ = run_context(params, env)
    chosen = chosen or context.catalog.get("metrics").resolve_load_version()
    for line in chain(context.catalog, name or "metrics", chosen):
        click.echo(line)


@click.command()
@run_options
@click.argument("pair", nargs=-1, metavar="[A B]")
@in_one_sentence
def runs(params: dict[str, Any], env: str | None, pair: tuple[str, ...]) -> None:
    """List every run that has metrics, in every version, or put two side by side.

    A and B are DATASET/RUN, the newest version of it, or DATASET/RUN:VERSION.
    """
    from mulcot_rd.hooks import changed_from_defaults
    from mulcot_rd.reporting.run_list import runs_on_disk, runs_table, two_runs
    from mulcot_rd.reporting.writers import to_markdown

    if len(pair) not in (0, 2):
        raise UserError("kedro runs takes two runs, as DATASET/RUN, or none")
    context, _ = run_context(params, env)
    found = runs_on_disk(context.catalog)
    if not found:
        raise UserError("no run has metrics yet: the pipeline evaluation writes them")
    shown = two_runs(found, *pair) if pair else runs_table(found, changed_from_defaults(context.config_loader))
    click.echo(to_markdown(shown))


@click.command()
@run_options
@click.option("--remove", is_flag=True, help="Remove the versions that nothing needs, after a question.")
@in_one_sentence
def versions(params: dict[str, Any], env: str | None, remove: bool) -> None:
    """List all versions: how much their removal frees, and how many others were made from each.

    The newest version of everything is needed, and so is what it was made from.
    """
    from mulcot_rd import housekeeping

    context, _ = run_context(params, env)
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
