"""Runs on disk, with the parameters and records that belong to each version of their metrics."""

import pytest
from kedro.io import DataCatalog
from kedro.io.core import Version

from mulcot_rd.datasets import ReplacedJSONDataset, ReplacedYAMLDataset
from mulcot_rd.errors import UserError
from mulcot_rd.reporting.run_list import runs_on_disk, runs_table, two_runs

KINDS = {"metrics": (ReplacedJSONDataset, "metrics.json"), "run_config": (ReplacedYAMLDataset, "config.yml")}


@pytest.fixture
def dataset(tmp_path):
    """A function that opens a dataset of a run, as the catalog does."""

    def opened(name, run="mine", save=None, versioned=True):
        kind, file = KINDS[name]
        version = Version(None, save) if versioned else None
        return kind(filepath=str(tmp_path / "sample" / run / file), version=version)

    return opened


@pytest.fixture
def catalog(dataset) -> DataCatalog:
    return DataCatalog({name: dataset(name) for name in KINDS})


def write(dataset, version, rate, accuracy, run="mine"):
    dataset("run_config", run, version).save({"student": {"rate": rate}})
    metrics = dataset("metrics", run, version)
    metrics.record = {
        "node": "score_run",
        "mulcot_rd": "0.1.0",
        "commit": "abc",
        "inputs": {"run_config": {"version": version, "fingerprint": f"{rate}" * 12}},
    }
    metrics.save({"student": {"accuracy": accuracy}, "assistant": None})


def test_every_version_stands_beside_its_own_parameters(dataset, catalog):
    write(dataset, "v1", 1, 0.5)
    write(dataset, "v2", 2, 0.75)
    write(dataset, "v1", 3, 0.25, run="other")
    table = runs_table(runs_on_disk(catalog), lambda config: [f"rate: {config['student']['rate']}"])
    assert table["run"].tolist() == ["sample/mine", "sample/mine", "sample/other"]
    assert table["student accuracy"].tolist() == [50, 75, 25]
    assert table["other than the defaults"].tolist() == ["rate: 1", "rate: 2", "rate: 3"]
    pair = two_runs(runs_on_disk(catalog), "sample/mine:v1", "sample/mine").set_index("")
    assert pair.loc["student.rate"].tolist() == [1, 2]
    assert pair.loc["student accuracy"].tolist() == [50, 75]
    assert pair.loc["from run_config"].tolist() == ["v1, 111111111111", "v2, 222222222222"]
    for name, said in (
        ("sample/mine:v9", "there are: v1, v2"),
        ("sample/none", 'did you mean "sample/mine"'),
    ):
        with pytest.raises(UserError, match=said):
            two_runs(runs_on_disk(catalog), name, "sample/other")


def test_metrics_of_a_release_without_records_get_no_parameters_that_may_be_others(dataset, catalog):
    dataset("run_config", versioned=False).save({"student": {"rate": 1}})
    dataset("metrics", versioned=False).save({"student": {"accuracy": 0.5}})
    (alone,) = runs_on_disk(catalog)
    assert alone.config == {"student": {"rate": 1}}
    write(dataset, "9999", 2, 0.75)
    first, second = runs_on_disk(catalog)
    assert (first.config, second.config) == ({}, {"student": {"rate": 2}})
