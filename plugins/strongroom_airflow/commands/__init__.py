"""The commands that Strongroom adds to `airflow`: one module for each command or group, and `definitions` for their options.

`runs` starts and reads runs of a DAG, `screen` shows them while a command follows them, and `terminal` prints. Commands that
change data start a run of a DAG; the others call the domain directly. Imports are most of what a command costs, so those that only
read import nothing for databases, runs and rows.
"""
