"""Makes no DAG. It fails to import while the settings of a table, or a notifier, are wrong, so that Airflow shows that above the list of DAGs.

Airflow keeps one import error for each file, and removes all DAGs of that file. This file has none, so the other tables are archived,
restored and purged as usual.
"""

from __future__ import annotations

from strongroom.settings import load_settings

settings = load_settings()
if settings.left_out:
    raise settings.tell_left_out(*settings.left_out)
if any(table.notifications for table in settings.tables.values()):
    from strongroom_airflow.notices.sending import require_notifiers

    require_notifiers(settings)
