"""`airflow strongroom certificate`: one certificate of destruction, on the screen or as a page to print."""

from __future__ import annotations

from argparse import Namespace
from datetime import datetime, timezone
from pathlib import Path

from rich.markup import escape

from strongroom.audit.certificate import choose_certificate, make_certificate_page, read_kept
from strongroom.errors import ConfigurationError
from strongroom.object_keys.archives import ArchiveId
from strongroom.retention.certificate import read_certificates
from strongroom.settings import Settings
from strongroom.storage.store import Store
from strongroom_airflow.commands.pdf import find_browser, print_pdf
from strongroom_airflow.commands.records import show_certificate
from strongroom_airflow.commands.terminal import command, print_error, print_out, read_settings
from strongroom_airflow.connections import connect_store, find_archive


@command
def certificate(args: Namespace) -> int:
    """Show a certificate, or write it as a page. Ends with 1 if it is not to be relied on."""
    output = Path(args.output) if args.output else None
    if output is not None and output.suffix not in (".html", ".pdf"):
        raise ConfigurationError(
            f"a certificate cannot be written to {output}",
            expected="a file that ends in .html or .pdf",
            hint="Nothing was written.",
        )
    browser = find_browser() if output is not None and output.suffix == ".pdf" else None
    store, archive = _find(read_settings(), args.what, args.partition)
    kept = read_kept(store, archive)
    if output is None:
        show_certificate(store, kept.certificate, put_back=kept.put_back, as_json=args.json)
    else:
        page = make_certificate_page(kept, made_at=datetime.now(timezone.utc)).encode()
        if browser is not None:
            print_pdf(browser, page, output)
        else:
            output.write_bytes(page)
        print_out(escape(f"Wrote {kept.certificate.number or archive} to {output}."))
    if kept.doubt is not None:
        print_error(
            ConfigurationError(
                f"the certificate of {archive} is not to be relied on as it is",
                found=kept.doubt,
                hint="Nothing was changed. `tools/verify_evidence.py` says what else is wrong with the store.",
            )
        )
    return 0 if kept.doubt is None else 1


def _find(settings: Settings, what: str, partition: str | None) -> tuple[Store, ArchiveId]:
    """The archive that a number, an archive id, or a table and a partition name."""
    if partition is None:
        _, store, archive = find_archive(settings, what.partition("/")[0])
        return store, archive
    table = settings.table(what)
    store = connect_store(table)
    found = [
        one for one in read_certificates(store, table.schema_name, table.table_name) if one.partition_key == partition
    ]
    return store, ArchiveId.parse(choose_certificate(found, f"{what} {partition}").archive_id)
