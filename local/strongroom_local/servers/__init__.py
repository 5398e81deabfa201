"""Real servers that run in a folder: PostgreSQL, SeaweedFS for S3, Redis, and Airflow with the metrics exporter.

``processes``, ``ports`` and ``server`` are what all of them share. ``postgres``, ``s3`` and ``redis`` are one server each.
``stack`` runs them together with ``airflow``; ``celery`` is the same stack with Celery workers.
"""
