"""Strongroom inside Airflow: each operator and command opens connections, calls the domain once, and reports what it did.

`archive`, `query`, `restore`, `retention` and `statistics` hold the operators of one DAG each, one module for each step, named like the
module of the domain that does the work. `commands` holds the commands that Strongroom adds to `airflow`; `provider` lists them.

`trigger` starts runs, for commands and pages. `step` is what all operators share, `steps` what they are called, `task_run` what they know of their run, and `stopping` is for SIGTERM. `connections` turns
Airflow connections into stores, `database_connections` into sessions, and `stored_connections` lets commands find them. `defaults` and
`documentation` are for the files in dags/. `timetable`, `triggers`, `notes` and `pages` extend Airflow; `preload` is imported before Airflow forks. `exporter` is a program of its own.

Nothing here decides what may be archived or deleted. Airflow stores the paths of `timetable` and `triggers`: do not move them.
"""
