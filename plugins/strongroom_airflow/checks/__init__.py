"""What `airflow strongroom check` tries through Airflow: ``doors`` opens what connections lead to, ``airflow`` looks at Airflow itself."""
