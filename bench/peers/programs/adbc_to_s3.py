"""ADBC, as its documentation shows it: fetch record batches, and write each one to a parquet object as it comes."""

import os

import pyarrow.parquet
from adbc_driver_postgresql import dbapi
from pyarrow.fs import S3FileSystem

store = S3FileSystem(endpoint_override=os.environ["S3_HOST"], scheme="http")
with dbapi.connect("postgresql://") as connection, connection.cursor() as cursor:
    print("step: extract to upload", flush=True)
    cursor.execute("SELECT * FROM {PEER_TABLE} WHERE {WINDOW}".format(**os.environ))
    rows = cursor.fetch_record_batch()
    where = "{PEER_BUCKET}/rows.parquet".format(**os.environ)
    with pyarrow.parquet.ParquetWriter(where, rows.schema, filesystem=store, compression="zstd") as writer:
        for batch in rows:
            writer.write_batch(batch)
