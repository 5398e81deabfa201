"""The names, options and help of the commands, one module for each group of them.

`airflow` reads these modules whenever it builds its parser. They import Airflow's command line and the standard library,
nothing else; the module that does a command's work is loaded when the command is called.

`options` holds what several commands take; `loading` loads a command when it is called. `archives` defines catalog, list, show,
verify and condemn; `runs` archive, restore and purge; `records` restores, certificates, verifications and jobs; `holds` the group
hold; `log` the group log; `audit` audit; `subject` the group subject; `iceberg` the group iceberg; `setup` the groups warm and bucket; `backfill` the command `airflow dags backfill`.
"""
