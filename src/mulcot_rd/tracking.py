"""Tracking: what a run writes, in a local MLflow too, where the parameter ``tracking`` is on (docs/tracking.md)."""

import logging
import os
from collections.abc import Mapping
from itertools import islice
from numbers import Real
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline

from mulcot_rd import __version__
from mulcot_rd.errors import UserError
from mulcot_rd.extras import extra
from mulcot_rd.fingerprint import fingerprint, flat
from mulcot_rd.lineage import commit
from mulcot_rd.parameters import RunParameters
from mulcot_rd.pipeline_registry import validated
from mulcot_rd.preference import MODELS, STUDENT_PREFERENCE
from mulcot_rd.reporting.run_config import run_config

if TYPE_CHECKING:
    from mlflow import MlflowClient

logger = logging.getLogger(__name__)

# What a run's parameters are read from, where it takes it from an earlier one (mulcot_rd.reporting.run_config).
_RESULTS = {
    "teacher": "teacher_summary",
    "assistant": "assistant_adapter",
    "expansion": "expansion_statistics",
    "student": "student_adapter",
    "preference_pairs": "preference_statistics",
    STUDENT_PREFERENCE: f"{STUDENT_PREFERENCE}_adapter",
}
_ADAPTERS = tuple(_RESULTS[model] for model in MODELS)
# No result depends on where a run lies and is computed, nor on how soft labels are divided; what else is left out says
# which result is meant.
_NO_PARAMETERS = (
    *("run.raw_dir", "run.data_root", "run.engine", "run.dry_run", "teacher.models"),
    *("student.soft_labels.batch_size", "student.soft_labels.rows_per_shard"),
)
_OF_COMPACT = ("student.soft_labels.top_k", "student.soft_labels.temperature")
_NO_PARAMETERS_OF_MODELS = ("cluster", "fingerprint", "training_rows", "best_epoch")
# MLflow takes no more of them at once.
_PARAMETERS_AT_ONCE, _METRICS_AT_ONCE = 100, 1000


class Tracking:
    """Hooks that log each run to MLflow. Where tracking is off they do nothing, and import nothing of MLflow."""

    def __init__(self) -> None:
        """Track nothing yet."""
        self._run: _Run | None = None

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Keep what gives the parameters."""
        self._loader = context.config_loader

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: DataCatalog) -> None:
        """Begin to track, or go on where the run was tracked before.

        Raises:
            UserError: If MLflow is not installed, or its store was moved.
        """
        self._run, self._catalog = None, catalog
        wanted = catalog.load("params:tracking")
        if not isinstance(wanted, bool):
            raise UserError(f"tracking={wanted}: give true or false")
        if not wanted:
            return
        run = RunParameters.model_validate(catalog.load("params:run_settings"))
        store = Path(run.data_root).resolve() / "mlflow"
        client = _client(store)
        made = pipeline.all_outputs()
        trains = not made.isdisjoint(_ADAPTERS)
        if trains or "run_config" in made:
            results = {name: _loaded(catalog, given) for name, given in _RESULTS.items() if given in pipeline.inputs()}
            # Groups as their classes: addresses in what these record have no passwords.
            at_hand = validated(self._loader["parameters"])
            config = run_config(run, at_hand, {name: result for name, result in results.items() if result})
        elif not (config := _loaded(catalog, "run_config")):
            logger.info("tracking: nothing is logged before the run trains or evaluates a model")
            return
        models = {name: _loaded(catalog, name) for name in _ADAPTERS if name not in made}
        # An untrained one tells no runs apart.
        models = {name: manifest for name, manifest in models.items() if manifest.get("trained")}
        code = {"mulcot_rd": __version__, "commit": commit(Path(run_params["project_path"])) or "unknown"}
        experiment = _experiment(client, store, run.dataset)
        self._run = _Run(client, experiment, run.name, _parameters(config), code, models, trains=trains)

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, data: Any) -> None:
        """Log what was saved: losses, scores, tables, figures, pages and model cards."""
        if self._run is None:
            return
        # Imported here: most commands need none of them.
        from mulcot_rd.datasets import AdapterDataset, FigureDataset, ReplacedTextDataset, ReportTableDataset

        dataset: Any = self._catalog.get(dataset_name)
        if isinstance(dataset, AdapterDataset):
            # Saved, it may lie elsewhere.
            manifest = dataset.load()
            if dataset_name in _ADAPTERS:
                self._run.log_model(dataset_name, manifest)
            self._run.log_card(dataset_name, manifest)
        elif dataset_name == "metrics":
            self._run.log_scores(data)
        elif isinstance(dataset, FigureDataset | ReportTableDataset | ReplacedTextDataset):
            kind = {FigureDataset: "figures", ReportTableDataset: "tables", ReplacedTextDataset: None}[type(dataset)]
            self._run.log_files(dataset._filepath.name, dataset._read(dataset._get_load_path()), kind)

    @hook_impl
    def after_pipeline_run(self) -> None:
        """Mark the run as finished."""
        self._end("FINISHED")

    @hook_impl
    def on_pipeline_error(self) -> None:
        """Mark the run as failed; given again, it goes on."""
        self._end("FAILED")

    def _end(self, status: str) -> None:
        if self._run is not None:
            self._run.set_status(status)
            self._run = None


class _Run:
    """A run of MLflow. One that is resumed goes on in the run that it began."""

    def __init__(
        self,
        client: "MlflowClient",
        experiment: str,
        name: str,
        parameters: Mapping[str, str],
        code: Mapping[str, str],
        models: Mapping[str, Mapping[str, Any]],
        *,
        trains: bool,
    ) -> None:
        """Find the run of MLflow, or begin one.

        Args:
            client: Of the store.
            experiment: Id of the data set's.
            name: The run's.
            parameters: What its results depend on, by dotted names.
            code: The version of the project.
            models: Adapters that are there already, dataset to manifest.
            trains: Whether others are to be trained: the run is then that of all parameters, else that of these
                models and of the parameters of the evaluation.
        """
        self._client, self._experiment, self._name = client, experiment, name
        self._parameters, self._models = parameters, dict(models)
        evaluation = {key: value for key, value in parameters.items() if key.startswith("evaluation.")}
        self._key = {"parameters": fingerprint(parameters)}
        self._tags = {**code, "evaluation": fingerprint(evaluation), **self._key}
        if models and not trains:
            made = {dataset: manifest["fingerprint"] for dataset, manifest in models.items()}
            self._key = {"evaluation": self._tags["evaluation"], **made}
        self._begin(self._key)
        for dataset, manifest in models.items():
            self.log_model(dataset, manifest)
            self.log_card(dataset, manifest)

    def _begin(self, tags: Mapping[str, str]) -> None:
        self._id = self._found(tags) or self._new()
        self.set_status("RUNNING")

    def set_status(self, status: str) -> None:
        if status == "RUNNING":
            self._client.update_run(self._id, status)
        else:
            self._client.set_terminated(self._id, status)

    def log_model(self, dataset: str, manifest: Mapping[str, Any]) -> None:
        """Log losses and dev scores by step, once."""
        from mulcot_rd.training.train import history_of

        if not manifest["trained"]:
            return
        made = manifest["fingerprint"]
        self._models[dataset] = manifest
        if self._tag(dataset) not in (None, made):
            # Equal parameters, other posts or code: a run of its own.
            self.set_status("FINISHED")
            self._begin({**self._key, dataset: made})
            for other in self._models.keys() - {dataset}:
                self.log_model(other, self._models[other])
        if self._tag(dataset) is None:
            self._log_history(manifest["role"], history_of(Path(manifest["folder"])))
            self._client.set_tag(self._id, dataset, made)

    def log_card(self, dataset: str, manifest: Mapping[str, Any]) -> None:
        """Log the card of a trained or merged model."""
        from mulcot_rd.models.card import CARD

        if manifest["trained"]:
            self._client.log_artifact(self._id, str(Path(manifest["folder"], CARD)), dataset)

    def _log_history(self, role: str, history: list[dict[str, Any]]) -> None:
        from mlflow.entities import Metric

        # MLflow keeps equal entries once: those of a logging that was killed come with the same time again.
        time = self._client.get_run(self._id).info.start_time
        entries = (
            Metric(f"{role}/{'dev_score' if name == 'score' else name}", value, time, row["step"])
            for row in history
            for name, value in row.items()
            if name not in ("epoch", "step") and _is_number(value)
        )
        while batch := list(islice(entries, _METRICS_AT_ONCE)):
            self._client.log_batch(self._id, metrics=batch)

    def log_scores(self, metrics: Mapping[str, Any]) -> None:
        """Log the scores of the teacher and the models that changed."""
        logged = self._client.get_run(self._id).data.metrics
        for role in ("teacher", *MODELS):
            for name, value in (metrics.get(role) or {}).items():
                if _is_number(value) and logged.get(f"{role}/{name}") != value:
                    self._client.log_metric(self._id, f"{role}/{name}", value)

    def log_files(self, name: str, content: Mapping[str, bytes], folder: str | None) -> None:
        """Log the files of a name, by their endings; those that are there are replaced."""
        with TemporaryDirectory() as copies:
            for ending, file in content.items():
                Path(copies, f"{name}{ending}").write_bytes(file)
            self._client.log_artifacts(self._id, copies, folder)

    def _found(self, tags: Mapping[str, str]) -> str | None:
        wanted = {**tags, "mlflow.runName": self._name}
        where = " and ".join(f"tags.`{name}` = '{value}'" for name, value in wanted.items())
        runs = self._client.search_runs([self._experiment], where, max_results=1, order_by=["start_time DESC"])
        return runs[0].info.run_id if runs else None

    def _new(self) -> str:
        from mlflow.entities import Param

        run_id = self._client.create_run(self._experiment, run_name=self._name).info.run_id
        parameters = (Param(name, value) for name, value in self._parameters.items())
        while batch := list(islice(parameters, _PARAMETERS_AT_ONCE)):
            self._client.log_batch(run_id, params=batch)
        # Last, so that a run which is found is whole.
        for name, value in self._tags.items():
            self._client.set_tag(run_id, name, value)
        return run_id

    def _tag(self, name: str) -> str | None:
        return self._client.get_run(self._id).data.tags.get(name)


def _client(store: Path) -> "MlflowClient":
    """A client of the store in a folder, which needs no server.

    Raises:
        UserError: If MLflow is not installed.
    """
    # MLflow would report each of its commands to its makers.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    store.mkdir(parents=True, exist_ok=True)
    with extra("tracking"):
        from mlflow import MlflowClient

        return MlflowClient(f"sqlite:///{store / 'mlflow.db'}")


def _experiment(client: "MlflowClient", store: Path, dataset: str) -> str:
    """The experiment of a data set, made where there is none.

    Raises:
        UserError: If its files are kept in another folder, since the store was moved.
    """
    wanted = (store / dataset).as_uri()
    found = client.get_experiment_by_name(dataset)
    if found is None:
        return client.create_experiment(dataset, artifact_location=wanted)
    if found.artifact_location != wanted:
        raise UserError(
            f"{store} was moved: its tables and figures are in {found.artifact_location}; move it back, or away to "
            "begin anew"
        )
    return found.experiment_id


def _loaded(catalog: DataCatalog, name: str) -> dict[str, Any]:
    return catalog.load(name) if catalog.exists(name) else {}


def _parameters(config: Mapping[str, Any]) -> dict[str, str]:
    """The parameters that a run's results depend on, by their dotted names; those that are not set are left out."""
    found = {}
    values = flat(config)
    unused = _OF_COMPACT if values.get("student.soft_labels.kind") == "exact" else ()
    for name, value in values.items():
        group, _, rest = name.partition(".")
        of_model = group in MODELS and rest.split(".")[0] in _NO_PARAMETERS_OF_MODELS
        if value is not None and not of_model and not name.startswith((*_NO_PARAMETERS, *unused)):
            found[name] = str(value)
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)
