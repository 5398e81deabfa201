"""Where bytes lie: the archive store, its bucket, and staging.

- ``store``        create-only writes, reads of one version, listings; it cannot delete
- ``purge_store``  the one place that removes objects of the archive store, version by version
- ``tried_store``  what an identity may do in a bucket, tried where it would do no harm
- ``either``       reads from the store, or from its second copy where the first is not sound
- ``author``       who writes into the store's transparency log, and with which key
- ``s3``           the client that both are made of, and what S3's errors become; ``versions`` are what listings tell
- ``bucket``       what archives ask of a bucket, and its lifecycle rules
- ``staging``      the scratch space between the steps of a run: ``staging_folder`` in a folder that all workers share,
  ``staging_s3`` on S3

What the objects mean is the ledger's business.
"""
