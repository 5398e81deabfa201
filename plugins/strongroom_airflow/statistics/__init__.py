"""The figures: `collect` reads them from stores and databases, `keep` is the operator of the DAG archive_statistics.

The exporter uses `collect` as well.
"""
