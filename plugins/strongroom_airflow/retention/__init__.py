"""Operators of the DAG retention_purge: `decide`, `approve`, `purge`, `sweep`, `drop_warm`, `drop_detached` and `report`.

`run` has what a step needs of its run, and says who must approve; `base` has the class that the operators extend. No operator
trusts XCom on what may be destroyed: each asks the store and the settings again.
"""
