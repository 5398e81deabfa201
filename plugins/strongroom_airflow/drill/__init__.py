"""Operators of the DAG restore_drill: `choose`, `restore` (the task `drill`) and `report`.

`run` has what a step needs of its run, `base` the class that the operators extend. They change no archive, and write only tables of
their own, which are gone when the task ends, and records of what they found.
"""
