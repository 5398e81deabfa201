"""dlt, as its documentation shows it: a table through ConnectorX to parquet files of the filesystem destination."""

import os

import dlt
import sqlalchemy
from dlt.destinations import filesystem
from dlt.sources.sql_database import sql_table

source = sql_table(
    credentials="postgresql+psycopg2://{PGUSER}:{PGPASSWORD}@{PGHOST}:{PGPORT}/{PGDATABASE}".format(**os.environ),
    schema="public",
    table=os.environ["PEER_TABLE"],
    backend="connectorx",
    reflection_level="full_with_precision",
    query_adapter_callback=lambda query, _table: query.where(sqlalchemy.text(os.environ["WINDOW"])),
)
store = filesystem(
    bucket_url="s3://{PEER_BUCKET}".format(**os.environ),
    credentials={
        "aws_access_key_id": os.environ["AWS_ACCESS_KEY_ID"],
        "aws_secret_access_key": os.environ["AWS_SECRET_ACCESS_KEY"],
        "endpoint_url": os.environ["AWS_ENDPOINT_URL"],
        "region_name": os.environ["AWS_DEFAULT_REGION"],
    },
)
dlt.config["data_writer.compression"] = "zstd"
pipeline = dlt.pipeline("bench", pipelines_dir=os.environ["SCRATCH"], destination=store, dataset_name="archive")
print("step: extract + compress", flush=True)
pipeline.extract(source, loader_file_format="parquet")
pipeline.normalize()
print("step: upload", flush=True)
pipeline.load(raise_on_failed_jobs=True)
