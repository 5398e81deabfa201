"""Strongroom inside Airflow: operators, timetable, commands. Airflow on one side, one domain call on the other."""
