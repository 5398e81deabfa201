"""Operators of the DAG subject_erasure: `find`, `approve`, `erase`, `cool_off`, `remove` and `close`.

`run` has what a step needs of its run, `base` the class that the operators extend. A case is known by its id alone: who the person is
lies protected in the store, and is in no parameter, log or XCom.
"""
