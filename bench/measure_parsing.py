"""How much CPU time does it take to import 200 archive DAGs, and one task's own? `make parsing`; see docs/measured/many-tables.md.

Each figure is the CPU time of a fresh process that imports as the DAG processor or a task does. A busy machine hardly changes it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from strongroom_local.servers.airflow import REPOSITORY

TABLES = 200
MOST_SECONDS = 5.0

PARSE = """
import time
from airflow.dag_processing.dagbag import DagBag
import strongroom_airflow.preload
imported = time.process_time()
bag = DagBag(DAGS)
assert not bag.import_errors, bag.import_errors
print(len(bag.dags), imported, time.process_time() - imported)
"""


def measure(folder: Path, dag_id: str | None) -> tuple[int, float, float]:
    """The number of DAGs, the CPU seconds for Airflow's and our modules, and those for the DAGs themselves."""
    environment = {
        **os.environ,
        "AIRFLOW_HOME": str(folder),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(REPOSITORY / "plugins"),
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
        "AIRFLOW__DAG_PROCESSOR__DAG_FILE_PROCESSOR_TIMEOUT": "600",
        "AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT": "600",
        "STRONGROOM_CONFIG": str(folder / "archive.yaml"),
    }
    if dag_id is not None:
        environment["_AIRFLOW_PARSING_CONTEXT_DAG_ID"] = dag_id
    script = PARSE.replace("DAGS", repr(str(REPOSITORY / "dags" / "archive_tables.py")))
    done = subprocess.run([sys.executable, "-c", script], env=environment, check=True, capture_output=True, text=True)
    dags, imports, parsing = done.stdout.splitlines()[-1].split()
    return int(dags), float(imports), float(parsing)


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="strongroom-") as name:
        folder = Path(name)
        sections = (f"  t{number:03d}: {{date_column: at, legal_basis: a measurement}}" for number in range(TABLES))
        (folder / "archive.yaml").write_text("\n".join(["tables:", *sections, ""]))
        everything, one = measure(folder, None), measure(folder, "archive__t100")
    print("| who | DAGs | modules | DAGs themselves |\n|---|--:|--:|--:|")
    for who, (dags, imports, parsing) in (("the DAG processor", everything), ("a task", one)):
        print(f"| {who} | {dags} | {imports:.1f} s | {parsing:.2f} s |")
    return 0 if everything[0] == TABLES and one[0] == 1 and sum(everything[1:]) < MOST_SECONDS else 1


if __name__ == "__main__":
    sys.exit(main())
