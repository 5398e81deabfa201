"""Where objects lie in the archive store: the one place that writes and reads their keys.

- ``layout``    the folders of the store, and how names and instants are written in a key
- ``records``   keys of what is on record: claims, orders, holds, evidence, cases, settings, the log, restores
- ``archives``  keys of an archive, of its parts, manifest and evidence; archive ids
- ``reports``   keys of reports: of runs, days, periods, drills, copies and looks inside
"""
