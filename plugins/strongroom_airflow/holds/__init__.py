"""Legal holds: `hold` is the operator of the DAG legal_hold; `stores` says where holds belong, for the commands as well."""
