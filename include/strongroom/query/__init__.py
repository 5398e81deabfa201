"""Look inside archives without restoring them. Nothing here changes an archive, or reads a database.

- ``records``  what was asked for, the outcome, and the record that the store keeps
- ``result``   the rows in staging: written, opened, as CSV and as JSON lines
"""
