"""Versions that are asked for go with the others that a run reads, or are refused."""

import pytest
from kedro.io import DataCatalog
from kedro.pipeline import Pipeline, node

from mulcot_rd.errors import UserError
from mulcot_rd.lineage import check_load_versions

FIRST, SECOND = "2026-01-01T00.00.00.000Z", "2026-01-02T00.00.00.000Z"
MADE_FROM = {
    "assistant": (),
    "reasonings": ("assistant",),
    "training_set": ("reasonings",),
    "student": ("training_set",),
}
EVALUATION = Pipeline([node(lambda assistant, student: None, ["assistant", "student"], None, name="evaluate")])


@pytest.fixture
def catalog(tmp_path):
    """All of them in two versions, each made from those of its time."""

    def at(save, **load):
        entries = {
            name: {
                "type": "mulcot_rd.datasets.ReplacedJSONDataset",
                "filepath": str(tmp_path / f"{name}.json"),
                "versioned": True,
            }
            for name in MADE_FROM
        }
        return DataCatalog.from_config(entries, load_versions=load, save_version=save)

    for version in (FIRST, SECOND):
        made = at(version)
        for name, sources in MADE_FROM.items():
            inputs = {
                source: {"version": version, "fingerprint": at(version).get(source).fingerprint()} for source in sources
            }
            made.get(name).record = {"inputs": inputs}
            made.save(name, {"of": version})
    return at


def test_an_older_student_is_not_evaluated_beside_an_assistant_that_had_no_part_in_it(catalog):
    with pytest.raises(UserError, match=rf"give --load-versions student:{FIRST},assistant:{FIRST}$"):
        check_load_versions({"student": FIRST}, EVALUATION, catalog(SECOND, student=FIRST))
    both = {"student": FIRST, "assistant": FIRST}
    check_load_versions(both, EVALUATION, catalog(SECOND, **both))
    check_load_versions({"student": SECOND}, EVALUATION, catalog(SECOND, student=SECOND))
