"""Figures about archives: computed, shown and kept. Nothing here archives, restores or removes anything.

- ``waiting``    counts of rows in the source database that wait to be archived
- ``proofs``     when archives were last read again, and which to read next
- ``rereading``  many archives read again in one run: which, in which lanes, and what was found
- ``records``    what statistics say
- ``figures``    all figures, from archives and counts
- ``charts``     charts of the figures: where each bar goes, and the numbers behind it
- ``words``      how numbers, sizes and amounts read
- ``page``       the figures as HTML: what the page in Airflow shows, and a file that needs nothing else
- ``metrics``    the figures for Prometheus
- ``keep``       where a day's figures are stored, and how they read in a log
"""
