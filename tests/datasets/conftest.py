"""A server that speaks S3."""

import logging
from collections.abc import Iterator

import boto3
import pytest
import s3fs
from moto.server import ThreadedMotoServer


@pytest.fixture(scope="session")
def bucket() -> Iterator[str]:
    """URL of a bucket on this machine; what reads it finds the server in its environment."""
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        for name, value in (("ACCESS_KEY_ID", "a"), ("SECRET_ACCESS_KEY", "b"), ("DEFAULT_REGION", "us-east-1")):
            environment.setenv(f"AWS_{name}", value)
        boto3.client("s3").create_bucket(Bucket="results")
        yield "s3://results"
        s3fs.S3FileSystem.clear_instance_cache()
    server.stop()
