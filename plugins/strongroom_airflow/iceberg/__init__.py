"""Iceberg tables over parquet archives: `lakes` opens what the settings name, `publish` is the operator of the DAG publish_iceberg."""
