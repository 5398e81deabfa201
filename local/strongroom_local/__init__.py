"""The local stack and the demo. For development only: nothing here is part of the product.

``servers`` runs real PostgreSQL, S3 and Airflow in a folder. ``demo`` makes sample data, archives some of it and proves the
result. ``python -m strongroom_local`` holds the commands behind the Makefile.
"""
