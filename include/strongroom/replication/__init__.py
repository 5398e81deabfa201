"""The second copy of a store: filled by Strongroom or by the store itself, and compared byte for byte in both cases.

- ``due``      which archives are to be copied or compared
- ``archive``  one archive: copied where it is missing, read back, compared, recorded
- ``rest``     evidence, holds, reports and the transparency log
- ``records``  what was compared, and the report of a run

What a copy of one object is, :mod:`strongroom.ledger.copies` says. A purge and the sweep act on the second copy too, and
:mod:`strongroom.storage.either` reads from it.
"""
