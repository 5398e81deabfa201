"""Work on live tables that several steps share.

- ``archived_rows``  what an archive holds of a part: its blocks, from staging or made again; keys and line digests, from the store
- ``erased``         rows of erased persons, which are neither sealed nor loaded
- ``block_ranges``   the ranges of dates that hold exactly the rows of a block
- ``equal_blocks``   which blocks a table holds exactly, in one COPY
- ``compare``        a table compared with an archive, by blocks and row by row
- ``unit_graph``     the tables that are archived together, as lines of text
- ``cut``            a window cut into parts
- ``readable``       rows that an archive could not give back
- ``exclusions``     rows that stay in their table, and why
- ``delete_range``   the statement that deletes or moves a block by the range of its dates
- ``delete_batch``   the statements that delete or move single rows by their keys
- ``delete_progress``  how far a delete has come, noted before each commit
- ``pace``           how a delete gives way to its neighbours
- ``steering``       orders that running steps obey between two batches, and how far they have come
- ``locks``          locks that are held briefly and given up soon
- ``guard``, ``partitions``  partitions that leave their table as a whole
- ``warm``           the warm tier; ``warm_script`` is the SQL that creates it
- ``vacuum``         dead rows after a delete
"""
