"""The steps of one run, in the order of a row's journey. Each step is one module, and no step imports another.

plan → extract_to_staging → compress → checksum → upload → verify → seal → detach → delete → report

Each step takes the record of the step before and returns one of its own (:mod:`strongroom.records`), so the type of a
record says how far a part has come. What two steps share lives on a lower floor: ``tables`` has the cutting, comparing
and deleting of rows, ``ledger`` has manifests, claims and evidence. Nothing here knows Airflow, restores or purges.
"""
