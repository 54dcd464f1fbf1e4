"""Hooks: what is checked before anything runs, so that a mistake costs seconds and is named in one sentence."""

import logging
import math
import os
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, cast

from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.io import DataCatalog, MemoryDataset
from kedro.io.core import get_filepath_str
from kedro.pipeline import Pipeline

from mulcot_rd.checks import check_names, check_parameters, check_runner
from mulcot_rd.config import ProjectConfigLoader
from mulcot_rd.errors import DryRunEnded, UserError
from mulcot_rd.lineage import where_results_lie
from mulcot_rd.parameters import RunParameters
from mulcot_rd.pipeline_registry import STAGES, stage, validated
from mulcot_rd.pipelines import OPTIONAL_INPUTS
from mulcot_rd.preference import WITHOUT_PREFERENCES
from mulcot_rd.reporting.run_config import changed_parameters, run_config

logger = logging.getLogger(__name__)

# What the reports compare a run's parameters with.
DEFAULTS = "default_parameters"


class MissingInputError(UserError):
    """Something an earlier pipeline writes is not on disk; the message names that pipeline."""


class ProjectHooks:
    """The project's hooks."""

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Refuse parameters that nothing would read, and an unknown architecture, scale or variant."""
        self._loader = cast(ProjectConfigLoader, context.config_loader)
        check_parameters(self._loader)

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Refuse to start where an earlier pipeline has not written what this one needs.

        From here on relative paths of parameters are those of the project, whatever folder the command was given in.

        Raises:
            DryRunEnded: With what the run would take, where ``dry_run`` is true.
            UserError: If something is missing or refused.
        """
        check_runner(run_params["runner"])
        project = Path(run_params["project_path"])
        os.chdir(project)
        run = RunParameters.model_validate(catalog.load("params:run_settings"))
        check_names(project / run.data_root, run.dataset, run.name)
        if run.dry_run:
            # Imported here: most commands need no torch.
            from mulcot_rd.planning import report

            stages = [name for name in STAGES if not {n.name for n in stage(name).nodes}.isdisjoint(_names(pipeline))]
            if not stages:
                raise UserError("dry_run=true counts what the stages of a run take, and none is to run: leave it out")
            raise DryRunEnded(report(catalog, self._loader, stages))
        if run.trained_on is not None:
            take_student_of(run, pipeline, catalog)
        left_out = WITHOUT_PREFERENCES.keys() & pipeline.datasets()
        if left_out and not self._loader["parameters"]["method"].get("preference"):
            for name in left_out:
                catalog[name] = MemoryDataset(WITHOUT_PREFERENCES[name])
            # Nodes of preferences read them, which do nothing here; runs of earlier versions have none.
            for name in {"teacher_rejected", "assistant_rejected"} & pipeline.inputs():
                catalog[name] = MemoryDataset([])
        if DEFAULTS in pipeline.inputs():
            catalog.save(DEFAULTS, default_parameters(self._loader))
        fill_optional_inputs(pipeline, catalog)
        check_inputs(pipeline, catalog)
        check_key(pipeline, catalog)
        check_backbones(pipeline, catalog)
        prepare_workers(pipeline, catalog)

    @hook_impl
    def after_pipeline_run(self, pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Name the run's page: the last line that a run says."""
        if "report" in pipeline.all_outputs():
            described = cast(Any, catalog.get("report"))._describe()
            logger.info("report of the run: %s", get_filepath_str(described["filepath"], described["protocol"]))


def _names(pipeline: Pipeline) -> set[str]:
    """The nodes' names without their stage."""
    return {node.name.rpartition(".")[2] for node in pipeline.nodes}


def default_parameters(loader: ProjectConfigLoader) -> dict[str, Any]:
    """The parameters of the shipped configuration, each group as the class that describes it."""
    return validated(loader.defaults())


def changed_from_defaults(loader: ProjectConfigLoader) -> Callable[[Mapping[str, Any]], list[str]]:
    """What tells the parameters of a ``config.yml`` that differ from the defaults of its architecture and variant."""

    @cache
    def usual(arch: int, scale: str, variant: str, seed: int) -> dict[str, Any]:
        chosen = loader.with_params({"arch": arch, "scale": scale, "variant": variant, "seed": seed})
        defaults = default_parameters(chosen)
        return run_config(defaults["run_settings"], defaults, {})

    def changed(config: Mapping[str, Any]) -> list[str]:
        if not config:
            return []
        return changed_parameters(
            config, usual(*(config["run"][name] for name in ("arch", "scale", "variant", "seed")))
        )

    return changed


def take_student_of(run: RunParameters, pipeline: Pipeline, catalog: DataCatalog) -> None:
    """Where the student of another run is evaluated, hand over as empty what is not there of that run and its teacher.

    Raises:
        UserError: If anything is to be trained or annotated, there is no such student, or this run has one of its own.
    """
    asked = f"student_run={run.student_run}"
    of_that_run = {
        *("assistant_adapter", "student_adapter", "student_preference_adapter"),
        *("teacher_summary", "expansion_statistics", "preference_statistics"),
    }
    if of_that_run & pipeline.all_outputs():
        raise UserError(
            f"{asked} evaluates the student of another run and trains none: "
            "kedro run --pipelines data_preparation,evaluation,reporting"
        )
    results, root = where_results_lie(catalog)
    own = root / "06_models" / run.dataset / run.name / "student"
    if results.exists(str(own)) or run.name == str(run.student_run).partition("/")[2]:
        raise UserError(
            f"{asked}: run={run.name} is the name of a run with a student of its own: give this one another name"
        )
    if not catalog.exists("student_adapter"):
        raise UserError(
            f"{asked}: {_place(catalog, 'student_adapter')} is missing: name a run that is trained, as DATASET/RUN"
        )
    empty = {
        "assistant_adapter": {"role": "assistant", "trained": False},
        **{name: WITHOUT_PREFERENCES[name] for name in ("student_preference_adapter", "preference_statistics")},
        "teacher_summary": {},
        "expansion_statistics": {},
        "teacher_references": [],
        "captions": [],
    }
    for name, value in empty.items():
        if name in pipeline.inputs() and not catalog.exists(name):
            catalog[name] = MemoryDataset(value)


def fill_optional_inputs(pipeline: Pipeline, catalog: DataCatalog) -> None:
    """Hand over as empty what is not on disk and is read by nodes alone that cope with that, such as the reports.

    The posts are never optional: without them a data set's name may be a slip.
    """
    for name in sorted(pipeline.inputs() - {"posts", "parameters"}):
        readers = pipeline.only_nodes_with_inputs(name).nodes
        optional = all(OPTIONAL_INPUTS in node.tags for node in readers)
        if optional and not name.startswith("params:") and name in catalog and not catalog.exists(name):
            logger.warning("%s is not on disk: the reports leave it out", _place(catalog, name))
            catalog[name] = MemoryDataset({})


def check_inputs(pipeline: Pipeline, catalog: DataCatalog) -> None:
    """Check that every input a pipeline does not make itself is there.

    Raises:
        MissingInputError: If one is missing; the message names the pipeline that writes it.
    """
    missing = {
        name
        for name in pipeline.inputs()
        if not (name.startswith("params:") or name == "parameters" or (name in catalog and catalog.exists(name)))
    }
    # The earliest stage is named: the later ones need it first anyway.
    for earlier in STAGES if missing else ():
        for name in sorted(missing & stage(earlier).all_outputs()):
            raise MissingInputError(
                f"{_place(catalog, name)} is missing: run `kedro run --pipeline {earlier}` with the same --params first"
            )


def check_key(pipeline: Pipeline, catalog: DataCatalog) -> None:
    """Check that a teacher who is to be asked has a key, before posts are read and captioned.

    Raises:
        TeacherError: If OpenAI is asked without a key, or the key can't be sent.
    """
    if "annotate_posts" in _names(pipeline):
        teacher = catalog.load("params:teacher")
        if teacher.writer == "openai" and not teacher.dry_run:
            teacher.key(catalog.load("teacher_credentials").api_key(teacher.base_url))


def check_backbones(pipeline: Pipeline, catalog: DataCatalog) -> None:
    """Check that the checkpoints of all roles are within reach, before hours of work need the last of them.

    Raises:
        WeightsError: If a checkpoint's configuration and processor can't be loaded, or are of another family.
    """
    for role in ("assistant", "student"):
        name = f"params:{role}"
        if name not in pipeline.inputs():
            continue
        backbone = catalog.load(name).backbone
        if backbone.model is not None:
            # Imported here: most commands need no torch.
            from mulcot_rd.models import check_family, family_named, load_processor

            checkpoint = family_named(backbone.family), backbone.model, backbone.revision
            check_family(*checkpoint)
            load_processor(*checkpoint)


def _place(catalog: DataCatalog, name: str) -> str:
    described = catalog.get(name)
    path = described._describe().get("filepath") if described is not None else None
    return f"{name} ({path})" if path else name


def prepare_workers(pipeline: Pipeline, catalog: DataCatalog) -> None:
    """Where processes of this machine will share the work, let what they begin from be imported meanwhile.

    Raises:
        UserError: If the package of another engine is missing.
    """
    roles = [role for role in ("assistant", "student") if f"params:{role}" in pipeline.inputs()]
    if not roles:
        return
    cluster = catalog.load(f"params:{roles[0]}").cluster
    # Imported here: most commands need no torch.
    import torch

    from mulcot_rd.distributed import check_engine, local

    check_engine(cluster.engine)
    gpus, threads = torch.cuda.device_count(), torch.get_num_threads()
    limit = RunParameters.model_validate(catalog.load("params:run_settings")).limit
    # Two rows a post at most: the teacher's reasoning, and the assistant's (Eq. 8).
    most = cluster.parts(threads + gpus, math.inf if limit is None else 2 * limit)
    if cluster.engine == "local" and cluster.group_size(gpus=gpus, threads=threads, most=most) > 1:
        # Workers import the main module anew: that of the command `kedro` imports this.
        local.prepare(["mulcot_rd.training.soft_label_writing", "kedro.framework.cli"])
