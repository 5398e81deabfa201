"""The archive in Airflow's own UI: server-rendered pages that each user sees as far as Airflow's rights on the DAGs go.

- `addresses`, `app`    where each page is; the application with its errors and static files
- `rights`, `forgery`   who may see and do what; which POST is refused
- `gathering`           what this web server knows of stores and databases, and how old it is
- `latest_runs`         what Airflow knows of runs
- `map`, `partition`, `archive`, `query`   the pages
- `actions`, `act`      what can be done, the page that asks, and the start of the runs
- `rendering`           templates and headers
"""
