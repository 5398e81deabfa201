"""Restore drills: a few archives are really restored, compared row by row by their digests, and dropped again.

- ``choose``   which archives, each with its reasons; anybody can recompute it
- ``begin``    read the archives of a store, choose, and record the choice before anything is restored
- ``drill``    one archive, part by part: restore it, read it back, compare, record
- ``report``   what a run found

What they work with:

- ``records``  the choice, what became of each archive, and the report
- ``scratch``  the tables that rows are restored into, which are gone afterwards
- ``digests``  the digest of the rows of a part, in whatever order they come

Nothing here changes an archive, or a row of anybody.
"""
