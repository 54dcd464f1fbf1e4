"""Parameters of the reports."""

from pydantic import Field

from mulcot_rd.schema import Record


class ReportingParameters(Record):
    """What the reports show."""

    case_posts: list[str] | None = Field(
        None, min_length=1, description="Ids of the test posts in the case study; null draws them with the run's seed"
    )
    cases: int = Field(3, ge=1, description="How many posts are drawn")
    report_posts: int = Field(
        12, ge=1, description="How many posts report.html shows of the errors, and of the modality conflicts"
    )
    compare_with: str | None = Field(
        None, description="Name of a run that every other one on its data set is compared with; null for none"
    )
    versions: dict[str, str] = Field(
        default_factory=dict,
        description="DATASET/RUN to the version of its metrics that the tables show; of other runs the newest",
    )
