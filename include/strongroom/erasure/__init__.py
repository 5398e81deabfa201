"""Requests of one person: what is held about them, and erasing it (GDPR 15 and 17, NDPA 34).

- ``cases``     the records of a case, its clock, and the protected record of who the person is
- ``clock``     which cases are open, and when each is due
- ``rows``      which rows are about the person, and what becomes of each
- ``find``      where there are such rows: tables, warm tables, restored copies and archives; and what may be erased
- ``approve``   what a second person was shown and answered
- ``tables``    rows leave tables
- ``successions``  the records that archives supersede others
- ``supersede``  an archive gets a successor without them, proved row by row
- ``erase``     a whole erasure, in its order
- ``remove``    archives that are superseded go, with a certificate
- ``close``     the end of a case
- ``report``    what is held about a person, for the person
"""
