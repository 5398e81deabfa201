"""How stores are opened: with the credentials of their own connections, and without reading again what they share."""

from __future__ import annotations

from botocore.loaders import JSONFileLoader

from strongroom.settings import load_settings
from strongroom_airflow.connections import connect_purge_store, connect_store
from tests.support.deployment import aws_connection


def test_each_store_has_its_own_keys_and_reads_no_description_of_s3_again(deployment, monkeypatch):
    """A page opens stores every few seconds, and botocore would parse a megabyte of JSON each time."""
    deployment.connection("store", aws_connection("first", "a secret"))
    deployment.connection("purge", aws_connection("second", "a secret"))
    audit = load_settings().table("audit")
    connect_store(audit)
    read = []
    monkeypatch.setattr(JSONFileLoader, "load_file", lambda _, path: read.append(path))

    stores = [connect_store(audit), connect_purge_store(audit)]
    deployment.connection("store", aws_connection("third", "a secret"))
    stores.append(connect_store(audit))

    assert read == []
    for store, key in zip(stores, ("first", "second", "third"), strict=True):
        assert key in store.client.generate_presigned_url("list_objects_v2", Params={"Bucket": "any"})
