"""The archive in Airflow's own UI: server-rendered pages that each user sees as far as Airflow's rights on the DAGs go.

`addresses` says where each page is, `app` has the routes, `rights` decides, and the templates show what `strongroom.overview` found.
"""
