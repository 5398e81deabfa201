"""Where bytes lie: the archive store, its bucket, and staging.

- ``store``        create-only writes, reads of one version, listings; it cannot delete
- ``purge_store``  the one place that removes objects of the archive store, version by version
- ``bucket``       what archives ask of a bucket, and its lifecycle rules
- ``staging``      the scratch space between the steps of a run, in a folder
- ``staging_s3``   the same on S3, for workers that share no folder

What the objects mean is the ledger's business.
"""
