"""What runs would do, said without doing it.

- ``records``     what is said of a table and of each of its partitions that is due, and the saved form of it
- ``look``        makes that from a source database and a store, in transactions that are read only
- ``history``     what earlier archives and runs of a table tell about the size and the time of the next one
- ``statements``  the statements of a run, and how the server plans them
- ``saved``       a plan in a file, and what changed since it was written
"""
