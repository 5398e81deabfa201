"""Recovery from nothing but a bucket and a recovery kit.

- ``kit``    what must be kept outside: settings, public keys, names of connections, the newest checkpoint; never a secret
- ``check``  whether a bucket is the one of the kit, and what can be restored from it
- ``fill``   an empty bucket filled from the replica, without what was purged or superseded

What is derived is built anew by :mod:`strongroom.ledger.index` and :mod:`strongroom.overview.reading`; rows come back by a restore.
"""
