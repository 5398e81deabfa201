"""Operators of the DAGs verify_archives and scrub_archives: `locate`, or `sample` (both the task `locate`), `reread` (the task `verify`) and `report`.

`run` has what a step needs of its run, `base` the class that the operators extend. They only read archives, and write records of
what they found.
"""
