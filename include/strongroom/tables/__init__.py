"""Work on live tables that several steps share.

- ``archived_keys``  the keys and digests of a part, from staging or from the archive
- ``compare``        a table compared with an archive, row by row
- ``cut``            a window cut into parts
- ``readable``       rows that an archive could not give back
- ``delete_batch``   the statements that delete or move one batch
- ``pace``           how a delete gives way to its neighbours
- ``locks``          locks that are held briefly and given up soon
- ``guard``, ``partitions``  partitions that leave their table as a whole
- ``warm``           the warm tier; ``warm_script`` is the SQL that creates it
- ``vacuum``         dead rows after a delete
"""
