"""Operators of the archive DAGs: one module for each step, from `plan` to `report`.

`run` has what a step needs of its run: settings, store, sessions, claim. `base` has the classes that the operators extend,
`pausing` how long a waiting task gives its slot up. The
steps pass records to each other through XCom, and know nothing of each other.
"""
