"""Operators of the DAG verify_archives: `locate`, `reread` (the task `verify`) and `report`.

`run` has what a step needs of its run, `base` the class that the operators extend. They only read archives, and write records of
what they found.
"""
