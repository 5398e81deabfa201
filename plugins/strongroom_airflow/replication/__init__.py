"""Operators of the DAG replicate_archives: `choose`, `copy` and `conclude`.

`run` has what a step needs of its run, and `counting` the metric of what is read from a replica.
"""
