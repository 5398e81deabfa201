"""What to archive, how long to keep it and where: one frozen, checked record for each table.

Three sources, the nearer one wins: a table's own section, the defaults at the top of the file, the defaults of
:mod:`strongroom.settings.sections`. The environment replaces single values of the file, at the top or in a table's
section. Whatever is wrong in the file and in the environment is told in one error. Nothing here opens a connection, and
nothing secret is kept here.
"""

from strongroom.settings.loading import DEFAULT_FILE, FILE_VARIABLE, PREFIX, load_settings
from strongroom.settings.sections import (
    Compression,
    DeleteLimits,
    Prices,
    Settings,
    StoreSettings,
    TableSettings,
    Transitions,
    qualify,
)

__all__ = [
    "DEFAULT_FILE",
    "FILE_VARIABLE",
    "PREFIX",
    "Compression",
    "DeleteLimits",
    "Prices",
    "Settings",
    "StoreSettings",
    "TableSettings",
    "Transitions",
    "load_settings",
    "qualify",
]
