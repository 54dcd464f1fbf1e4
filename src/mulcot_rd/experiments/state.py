"""Whether a planned run is complete and up to date: by what it was made from, not by its files' mere existence."""

import json
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

from kedro.framework.session import KedroSession
from omegaconf import OmegaConf

from mulcot_rd.errors import UserError
from mulcot_rd.experiments.plan import PlannedRun
from mulcot_rd.files import write_json
from mulcot_rd.fingerprint import file_fingerprint, fingerprint
from mulcot_rd.lineage import is_versioned
from mulcot_rd.models import looks_local
from mulcot_rd.pipeline_registry import stage
from mulcot_rd.preference import WITHOUT_PREFERENCES

# Changing these folders changes no result of a run, but its reports.
_REPORTS = ("reporting/", "pipelines/reporting/")
# Changing these changes neither.
_NEITHER = ("experiments/",)
# How the outputs of the pipeline reporting begin that are of all runs.
_OF_ALL_RUNS = ("table_", "figure_")


class RunState:
    """A planned run as the project's configuration resolves it.

    Attributes:
        name: The run's name, which is also that of its folders.
        dataset: The data set's name.
        reports: Folder of the reports of all runs.
        record: The file that says what the finished run was made from.
        outputs: What the run writes: all outputs of its stages, and of the reports those that are its own.
        own_reports: Of these the reports.
        reporting: Fingerprint of what makes reports of results: parameters and code.
        fingerprint: Of everything that determines the run's results: the parameters that its stages read, raw data,
            imported reasonings, checkpoints of the user's own, and the project's code and prompts.
    """

    def __init__(self, planned: PlannedRun, project: Path) -> None:
        """Resolve the configuration.

        Raises:
            UserError: If the parameters are refused; so does any command with the same ones.
        """
        given = OmegaConf.create()
        for name, value in planned.parameters.items():
            OmegaConf.update(given, name, value)
        runtime: Any = OmegaConf.to_container(given)
        with KedroSession.create(project_path=project, env=planned.env, runtime_params=runtime) as session:
            context: Any = cast(KedroSession, session).load_context()
            self._catalog = context.catalog
            parameters = context.params
        settings = parameters["run_settings"]
        if settings.dry_run:
            raise UserError("dry_run=true runs nothing: take it out of the plan, or give it to kedro run")
        self.name: str = settings.name
        self.dataset: str = settings.dataset
        self._stages = [stage(name) for name in planned.stages if name != "reporting"]
        self.own_reports: set[str] = set()
        if "reporting" in planned.stages:
            # Tables and figures of all runs are made once, behind the last run.
            self.own_reports = {name for name in stage("reporting").all_outputs() if not name.startswith(_OF_ALL_RUNS)}
        self.reporting = fingerprint(parameters["reporting"], code_fingerprint(reports=True))
        self.outputs = {name for each in self._stages for name in each.all_outputs()} | self.own_reports
        if not parameters["method"].get("preference"):
            self.outputs -= WITHOUT_PREFERENCES.keys()
        self.reports = project / settings.data_root / "08_reporting"
        self.record = self.reports / self.dataset / self.name / "experiment.json"
        read = sorted(
            {name.removeprefix("params:") for each in self._stages for name in each.inputs() if "params:" in name}
        )
        self.fingerprint = fingerprint(
            planned.stages,
            {name: parameters[name] for name in read},
            _marks(project / settings.raw_dir / (parameters["ingest"].folder or self.dataset)),
            _marks(_path(project, parameters["teacher"].import_path)),
            _marks(_path(project, parameters["ingest"].split_files)),
            *(_marks(_path(project, location)) for location in _own_checkpoints(parameters)),
            code_fingerprint(),
        )

    def up_to_date(self) -> bool:
        """Whether the run finished with the same fingerprint, and all its outputs are there as it left them."""
        record = self._recorded()
        return (
            record.get("fingerprint") == self.fingerprint
            and all(self._catalog.exists(name) for name in self.outputs if name in self._catalog)
            # Records of earlier releases name no versions.
            and record.get("versions") in (None, self._versions())
        )

    def reports_up_to_date(self) -> bool:
        """Whether the reports of a run that is up to date were made by the same parameters and code."""
        return not self.own_reports or self._recorded().get("reporting") == self.reporting

    def finish(self, seconds: float | None) -> None:
        """Note that the run finished, and how long it took in seconds; ``None`` where only its reports were made."""
        record = {
            "run": self.name,
            "fingerprint": self.fingerprint,
            "reporting": self.reporting,
            "seconds": self._recorded()["seconds"] if seconds is None else round(seconds, 1),
            "versions": self._versions(),
        }
        write_json(self.record, record)

    def _recorded(self) -> dict[str, Any]:
        return json.loads(self.record.read_text(encoding="utf-8")) if self.record.exists() else {}

    def _versions(self) -> dict[str, str]:
        """The newest version of all that the stages write, or read of another run.

        A run of the same name by hand, with other parameters, makes newer ones. The posts are the data set's, which
        all its runs write; the fingerprint has what they are made from.
        """
        found = {}
        for name in sorted({name for each in self._stages for name in each.datasets()} - {"posts"}):
            dataset: Any = self._catalog.get(name) if name in self._catalog else None
            if is_versioned(dataset):
                # It remembers what it found before the run.
                dataset.release()
                if dataset.exists():
                    found[name] = dataset.resolve_load_version()
        return found


@cache
def code_fingerprint(*, reports: bool = False) -> str:
    """A hash of the package's code and prompts, of what only reports or of all else."""
    package = Path(str(files("mulcot_rd")))
    sources = [
        path
        for path in sorted(package.rglob("*"))
        if path.suffix in (".py", ".j2", ".json")
        and not (name := path.relative_to(package).as_posix()).startswith(_NEITHER)
        and name.startswith(_REPORTS) == reports
    ]
    return fingerprint([path.relative_to(package).as_posix() for path in sources], file_fingerprint(*sources))


def _own_checkpoints(parameters: dict[str, Any]) -> list[str]:
    models = [parameters[f"{role}_backbone"]["model"] for role in ("assistant", "student")]
    return [model for model in models if model is not None and looks_local(model)]


def _path(project: Path, value: str | None) -> Path | None:
    return None if value is None else project / Path(value).expanduser()


def _marks(path: Path | None) -> list[list[Any]]:
    """Names, sizes and times of a file or of all files below a folder; nothing where there is none."""
    if path is None or not path.exists():
        return []
    found = [path] if path.is_file() else sorted(entry for entry in path.rglob("*") if entry.is_file())
    return [[entry.name, entry.stat().st_size, entry.stat().st_mtime_ns] for entry in found]
