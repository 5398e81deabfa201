"""DuckDB, as its documentation shows it: COPY a query on PostgreSQL to a parquet object. Extensions come from packages."""

import os

import duckdb
from duckdb_extensions import import_extension

with duckdb.connect() as connection:
    for extension in ("postgres_scanner", "httpfs"):
        import_extension(extension, con=connection)
        connection.load_extension(extension)
    connection.execute(
        "CREATE SECRET (TYPE s3, PROVIDER config, KEY_ID '{AWS_ACCESS_KEY_ID}', SECRET '{AWS_SECRET_ACCESS_KEY}', "
        "REGION '{AWS_DEFAULT_REGION}', ENDPOINT '{S3_HOST}', URL_STYLE 'path', USE_SSL false)".format(**os.environ)
    )
    connection.execute("ATTACH '' AS source (TYPE postgres, READ_ONLY)")
    print("step: extract to upload", flush=True)
    connection.execute(
        "COPY (FROM source.public.{PEER_TABLE} WHERE {WINDOW}) TO 's3://{PEER_BUCKET}/rows.parquet' "
        "(FORMAT parquet, COMPRESSION zstd)".format(**os.environ)
    )
