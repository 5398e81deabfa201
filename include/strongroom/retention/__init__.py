"""How archives and what belongs to them end. Nothing here makes or reads rows of an archive for a restore.

- ``decide``         which archives are to be purged, and why the others stay
- ``policy``         who must approve: what the settings say, and what they said until lately
- ``approve``        what a person was shown and answered, as records in the store
- ``purge``          one archive removed, and its removal proved, in the order that makes it safe to break off
- ``archive_versions``  all versions of an archive's objects, and the locks on them
- ``certificate``    the intent and the certificate that a purge leaves
- ``second_copy``    the replica as a purge and the sweep see it
- ``condemn``        an archive given up because a part of it is lost
- ``leftovers``      what broken runs left behind, and what has expired: found and judged
- ``sweep``          leftovers removed, in store and staging
- ``drop_detached``  detached table partitions, dropped after their cooling-off
- ``drop_warm``      partitions of warm tables, dropped after their term
- ``warm_rows``      which rows of a warm partition are in an archive as they are there
- ``report``         the summary of one run

When a purge runs, and how a person is asked, is the Airflow side's business.
"""
