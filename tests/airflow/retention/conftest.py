"""What tests of the retention purge have in common: where Airflow finds the store, with both identities."""

from __future__ import annotations

import pytest

from strongroom.settings import TableSettings
from tests.support.chain import some_settings


@pytest.fixture
def settings(object_store, bucket, tmp_path, deployment) -> TableSettings:
    """Settings of the table `audit`, whose store Airflow finds as the archiver and as the purger."""
    deployment.store(object_store, bucket, purge="purger")
    return some_settings(bucket, tmp_path / "staging")
