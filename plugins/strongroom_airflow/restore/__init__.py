"""Operators of the DAG restore_archive: `plan` (the task `locate`), `thaw`, `load` (the task `restore`) and `report`.

`run` has what a step needs of its run, `base` the class that the operators extend.
"""
