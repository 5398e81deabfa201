"""What is where: the state of each table and calendar partition, for people who look. Nothing here changes anything.

- ``facts``     what a store tells of all its archives
- ``reading``   reads the facts, and keeps them in the store for the next reader
- ``source``    what a source database tells of a table: which partitions have rows
- ``states``    the states of a partition, from the worst to the best
- ``chart``     the map: each partition's states
- ``columns``   the map in columns of months or partitions, and what stands in each field
- ``search``    archives, holds and what was destroyed, found by words
- ``history``   the story of one partition, and where each of its rows went
- ``details``   everything about one archive, with its objects as they are now
- ``commands``  how a stranger fetches, checks and reads an archive
"""
