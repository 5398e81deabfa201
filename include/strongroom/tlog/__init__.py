"""Transparency logs in the formats of C2SP: pure functions over bytes, without a store. Tools that are not ours read the same.

- ``merkle``       hashes, roots and proofs of RFC 6962
- ``tiles``        a tree as tiles and entry bundles (tlog-tiles)
- ``notes``        signed notes and their keys (signed-note), and cosignatures (tlog-cosignature)
- ``checkpoints``  heads of a log (tlog-checkpoint), and proofs to hand over (tlog-proof)
"""
