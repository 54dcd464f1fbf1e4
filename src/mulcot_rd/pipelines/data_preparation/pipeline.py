"""Wiring of the pipeline data_preparation."""

from kedro.pipeline import Node, Pipeline

from mulcot_rd.pipelines.data_preparation.nodes import accept_posts, read_raw


def create_pipeline() -> Pipeline:
    """Raw data set -> posts, rejected."""
    return Pipeline(
        [
            Node(
                read_raw,
                inputs=["params:run_settings", "params:ingest"],
                outputs=["raw_posts", "rejected"],
                name="read_raw",
            ),
            Node(
                accept_posts,
                inputs=["raw_posts", "rejected", "params:run_settings", "params:ingest"],
                outputs="posts",
                name="accept_posts",
            ),
        ]
    )
