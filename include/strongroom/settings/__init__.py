"""What to archive, how long to keep it and where: one frozen, checked record for each table.

There are three sources, and the nearer one wins: a table's own section, the defaults at the top of the file, the defaults of
:mod:`strongroom.settings.tables`. The environment replaces single values of the file, at the top or in a table's section. One
error reports all faults of file and environment. Nothing here opens a connection or keeps a secret.

- ``tables``, ``sections``  what can be set, and the defaults
- ``names``        what a table may be called
- ``values``       the kinds of values, each with its rule; ``terms_in_words``  the terms that a legal basis names
- ``loading``, ``strict_yaml``, ``faults``  read file and environment, and say what is wrong
- ``units``        tables that are archived together, and what a member may set
- ``time_budget``  when work on the source database must stop
"""

from strongroom.settings.loading import DEFAULT_FILE, FILE_VARIABLE, PREFIX, load_settings
from strongroom.settings.names import qualify
from strongroom.settings.sections import (
    Compression,
    DeleteLimits,
    DrillSettings,
    Notification,
    Prices,
    QueryLimits,
    Replica,
    StoreSettings,
    Subjects,
    Transitions,
)
from strongroom.settings.tables import Settings, TableSettings

__all__ = [
    "DEFAULT_FILE",
    "FILE_VARIABLE",
    "PREFIX",
    "Compression",
    "DeleteLimits",
    "DrillSettings",
    "Notification",
    "Prices",
    "QueryLimits",
    "Replica",
    "Settings",
    "StoreSettings",
    "Subjects",
    "TableSettings",
    "Transitions",
    "load_settings",
    "qualify",
]
