"""Create the buckets of archives and of task logs if missing, versioned and with Object Lock, and that of Iceberg tables, without.

Everything comes from the environment: STRONGROOM__STORE__BUCKET, and boto3's own variables (AWS_ENDPOINT_URL,
AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_DEFAULT_REGION, AWS_CA_BUNDLE).
"""

from __future__ import annotations

import contextlib
import os

import boto3
from botocore.config import Config

from strongroom_local.servers.s3 import ICEBERG_BUCKET, TASK_LOG_BUCKET  # noqa: TID251 (compose is for development too)


def create_bucket(name: str, *, versioned: bool = True) -> None:
    """Create one bucket. Safe to repeat."""
    retries = {"mode": "standard", "total_max_attempts": 10}
    client = boto3.client("s3", config=Config(s3={"addressing_style": "path"}, retries=retries))
    with contextlib.suppress(client.exceptions.BucketAlreadyOwnedByYou, client.exceptions.BucketAlreadyExists):
        client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=versioned)


if __name__ == "__main__":
    create_bucket(os.environ["STRONGROOM__STORE__BUCKET"])
    create_bucket(TASK_LOG_BUCKET)
    create_bucket(ICEBERG_BUCKET, versioned=False)
