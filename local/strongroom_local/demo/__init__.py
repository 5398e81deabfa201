"""The demo behind ``make demo``, and its sample data.

``sample`` fills five tables with the SQL in ``sql/``. ``run`` is the demo from start to end: ``api``, ``runs`` and ``later``
make Airflow work, ``proof`` and ``checks`` check the result with SQL and S3 alone, and ``screen`` shows it. ``pictures`` and ``figures`` take the pictures of
the documentation.
"""
