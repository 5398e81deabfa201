"""Strongroom: moves old PostgreSQL rows into proved archives. Plain Python, no Airflow."""
