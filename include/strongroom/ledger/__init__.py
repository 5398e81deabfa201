"""What the archive store has on record: which archives exist, what became of their rows, who may touch them.

- ``manifest_record``  what a manifest says, and what makes one sound
- ``manifests``        which manifests there are, and reading one that can be trusted
- ``index``            all manifests of a store at once, fast
- ``log``              the transparency log: one history that many append to and nobody takes back
- ``configuration``    which settings of a table were in force when
- ``entries``          what an entry of that log says: which act, on which objects, by whom
- ``journal``          what is entered in that log, and what is believed only because the log has it
- ``witnesses``        what witnesses of the log left in the store
- ``watching``         whether the log only grows, has every record, and is witnessed, looked at again and again
- ``adopt``            bringing into the log what is older than it, or whose writer died
- ``evidence``         that rows were deleted, or detached with their table partitions
- ``units``            archives that were sealed together, and which rows go first
- ``deletable``        whether rows of a sealed archive may leave their table
- ``reread``           sealed archives read back and compared again
- ``copies``           the store's second copy, object by object: copying and comparing
- ``claims``           which run works on a calendar partition; the store's clock
- ``orders``           what an operator orders running steps to do: slower, or pause
- ``holds``            legal holds, and what they cover
- ``restore_records``  which restored rows must stay in their tables
- ``sealing``          the objects that make parts an archive, in their order
- ``suppressed``       whose rows must not come back, by token
- ``owner``            which database the store belongs to
- ``object_lock``      S3's locks on the objects of archives
- ``stored_records``   one record read from its object

It reads and writes the store only. No database session, and no step of a run, is known here.
"""
