"""A first archive.yaml for a database that nobody has looked at yet. Reads the catalogue and the planner's statistics, and no row.

``look`` lists the tables with their sizes and columns of dates; ``choose`` says for each whether it can be archived, by which date, and why
not; ``write`` makes the file of that.
"""
