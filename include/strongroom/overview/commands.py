"""The commands with which a stranger fetches, checks and reads an archive, with nothing of ours installed."""

from __future__ import annotations

from dataclasses import dataclass
from shlex import quote

from strongroom.ledger.manifest_record import Manifest, ManifestPart
from strongroom.object_keys.archives import ArchiveId

_UNPACK = {"zstd": "zstd -dc", "gzip": "gzip -dc", "none": "cat"}


@dataclass(frozen=True)
class CommandBlock:
    """Some commands for a shell, and what they show."""

    title: str
    text: str


def check_commands(
    manifest: Manifest, *, bucket: str, prefix: str, endpoint_url: str | None, part: int = 0
) -> list[CommandBlock]:
    """Commands for one part of an archive, in the order in which they are used.

    Args:
        manifest: Of the archive; it must be sound.
        bucket: That it lies in.
        prefix: Of all keys in that bucket; empty or with its final slash.
        endpoint_url: Of the store; None means Amazon's.
        part: Which part.
    """
    archive, one = ArchiveId.parse(manifest.archive_id), manifest.parts[part]
    file = quote(_name(one))
    return [
        CommandBlock("Fetch the very version that was verified", _fetch(archive, one, bucket, prefix, endpoint_url)),
        CommandBlock(
            "Compare its checksum",
            f"echo '{one.sha256}  {_name(one)}' | sha256sum -c\n"
            f"echo '{manifest.checksum}  SHA256SUMS' | sha256sum -c\nsha256sum -c --ignore-missing SHA256SUMS",
        ),
        *(_read_parquet(one) if manifest.format == "parquet" else _read_lines(manifest, one, file)),
    ]


def _fetch(archive: ArchiveId, one: ManifestPart, bucket: str, prefix: str, endpoint_url: str | None) -> str:
    where = f"aws {f'--endpoint-url {quote(endpoint_url)} ' if endpoint_url else ''}s3api get-object --bucket {quote(bucket)}"
    version = f" --version-id {quote(one.version_id)}" if one.version_id else ""
    lines = [f"{where} --key {quote(prefix + one.object_key)}{version} {quote(_name(one))}"]
    for key in (archive.sums_key, archive.manifest_key):
        lines.append(f"{where} --key {quote(prefix + key)} {quote(key.rpartition('/')[2])}")
    return "\n".join(lines)


def _read_lines(manifest: Manifest, one: ManifestPart, file: str) -> list[CommandBlock]:
    unpack = f"{_UNPACK[manifest.compression_type]} {file}"
    return [
        CommandBlock(
            "Compare the rows inside",
            f"{unpack} | sha256sum   # {one.original_sha256}\n{unpack} | wc -l   # {one.record_count}",
        ),
        CommandBlock("Read the first rows", f"{unpack} | head -n 3 | jq ."),
        CommandBlock("Count them with DuckDB", _duckdb("count(*)", f"read_ndjson_objects('{_name(one)}')")),
    ]


def _read_parquet(one: ManifestPart) -> list[CommandBlock]:
    return [
        CommandBlock("Count its rows", f"{_duckdb('count(*)', repr(_name(one)))}   # {one.record_count}"),
        CommandBlock("Read the first rows", _duckdb("*", f"{_name(one)!r} LIMIT 3")),
    ]


def _name(one: ManifestPart) -> str:
    """The part's file name, which has no quotes."""
    return one.object_key.rpartition("/")[2]


def _duckdb(columns: str, source: str) -> str:
    return f'duckdb -c "SELECT {columns} FROM {source}"'  # noqa: S608 - shown, never run
