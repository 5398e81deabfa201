"""The local stack: embedded PostgreSQL, S3 and Airflow, sample data and the demo. Not part of the product."""
