"""The commands that Strongroom adds to `airflow`; `strongroom_airflow.provider` names them, each module is one of them."""
