"""Reads the settings from the file and the environment, and reports all faults of both in one error."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource
from pydantic_settings.sources.utils import parse_env_vars

from strongroom.errors import ConfigurationError
from strongroom.settings.faults import (
    Finding,
    Key,
    describe_misplaced,
    describe_unknown,
    list_findings,
    name_heirs,
    show,
    show_key,
)
from strongroom.settings.names import find_twins, make_slug, qualify
from strongroom.settings.sections import SECTIONS
from strongroom.settings.strict_yaml import YamlError, parse_yaml
from strongroom.settings.tables import Settings, TableSettings
from strongroom.settings.units import (
    WITH,
    UnitSettings,
    faults_of_member,
    faults_of_root,
    named_members,
    section_of_member,
)
from strongroom.settings.values import guess

DEFAULT_FILE = Path(__file__).resolve().parents[2] / "config" / "archive.yaml"
FILE_VARIABLE = "STRONGROOM_CONFIG"
PREFIX = "STRONGROOM__"

_CONFIRMED: Key = ("purge", "confirmed")

VERSION = 1
"""Of the settings file. It grows when a key changes its meaning or goes; a file that names no version has the first one."""


def load_settings(path: Path | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Read the file and the environment, and check every setting of every table.

    A table that is wrong by itself is left out, and the others are loaded.

    Args:
        path: The file; None takes the one that STRONGROOM_CONFIG names, or `include/config/archive.yaml`.
        environ: Variables; None takes the process's own. A relative staging folder is read from its AIRFLOW_HOME.

    Raises:
        ConfigurationError: The file, a default or a variable for all tables is wrong, or every table is wrong. Reports all
            faults of file and environment together, each with its key or variable.
    """
    environ = os.environ if environ is None else environ
    draft = _Draft(_find_file(path, environ))
    draft.read_file()
    draft.read_environment(environ)
    tables = draft.check({"environ": environ})
    left_out = draft.left_out()
    sound = {name: table for name, table in tables.items() if name not in left_out}
    if draft.spoils_all or not sound:
        draft.raise_faults()
    return Settings(tables=sound, left_out=left_out)


def _find_file(path: Path | None, environ: Mapping[str, str]) -> Path:
    named = path or environ.get(FILE_VARIABLE)
    try:
        return Path(named).expanduser() if named else DEFAULT_FILE
    except RuntimeError:
        return Path(str(named))


@dataclass
class _Fault:
    """The tables that one fault affects.

    Attributes:
        tables: Their names; none means all tables.
        inherited: Whether they inherit it from a default, so its line does not name them.
    """

    tables: list[str] = field(default_factory=list)
    inherited: bool = False


class _Draft:
    """A document that is being turned into settings, and its faults so far."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.document: dict[str, Any] = {}
        self.tables: dict[str, dict[str, Any]] = {}
        self._not_sections: set[str] = set()
        self.is_read = False
        self._variables: dict[Key, str] = {}
        self._faults: dict[str, _Fault] = {}
        """By its line in the error."""

    # -- sources

    def read_file(self) -> None:
        """Take the file apart into defaults and tables."""
        try:
            document, faults = parse_yaml(self.path.read_bytes().decode("utf-8-sig"))
        except OSError as error:
            why = error.strerror or error
            return self._report_file(f"cannot be read: {why}; set STRONGROOM_CONFIG to the path of the file")
        except UnicodeDecodeError as error:
            return self._report_file(f"is not UTF-8 text, byte {error.start} is wrong")
        except (YamlError, ValueError) as error:
            return self._report_file(str(error))
        for sentence in faults:
            self._report_file(sentence)
        if not isinstance(document, dict):
            return self._report_file(f"expected a mapping of settings, found {show(document)}")
        version = document.pop("version", VERSION)
        if version != VERSION or isinstance(version, bool):
            return self._report(("version",), _describe_version(version))
        self.is_read = True
        tables = document.pop("tables", None)
        self.document = _without_empty_sections(document)
        if not isinstance(tables, dict) or not tables:
            return self._report(("tables",), f"expected at least one table, found {show(tables)}")
        for name, section in tables.items():
            if isinstance(section, dict | None):
                self.tables[name] = _without_empty_sections(section or {})
            else:
                self.tables[name] = {}
                self._not_sections.add(name)
                self._report(("tables", name), f"expected a mapping of settings, found {show(section)}", name)
        return None

    def read_environment(self, environ: Mapping[str, str]) -> None:
        """Replace the values that variables name. Shorter keys come first, so a section does not overwrite its own parts."""
        names = [name for name in environ if name.startswith(PREFIX)]
        for name in sorted(names, key=lambda name: (name.count("__"), name)):
            self._read_variable(name, environ[name])

    def _read_variable(self, variable: str, text: str) -> None:
        rest = variable.removeprefix(PREFIX).casefold()
        section: dict[str, Any] = self.document
        base: Key = ()
        table: str | None = None
        if rest.split("__")[0] == "tables":
            rest = rest.removeprefix("tables").removeprefix("__")
            table = self._match_table(rest)
            if table is None:
                if self.is_read:
                    expected = "STRONGROOM__TABLES__<TABLE>__<SETTING> with a table of the file"
                    self._add(variable, f"expected {expected}{guess(rest.split('__')[0], list(self.tables))}")
                return None
            section, base = self.tables[table], ("tables", table)
            rest = rest[len(make_slug(table)) + 2 :]
        key = tuple(rest.split("__"))
        value: Any = _OneVariable(rest, text)()
        for part in key:
            if not isinstance(value, dict) or part not in value:
                return self._add(variable, describe_misplaced(key), table)
            value = value[part]
        place = (*base, *key)
        if self._variables.setdefault(place, variable) != variable:
            found = self._variables[place]
            return self._add(variable, f"expected one variable for this setting, found {found} too", table)
        _put(section, key, value)
        return None

    def _match_table(self, rest: str) -> str | None:
        """Find the table whose slug begins a variable's rest, in any case. The longest wins, because a slug may contain `__`."""
        found = [name for name in self.tables if rest.startswith(f"{make_slug(name).casefold()}__")]
        return max(found, key=lambda name: len(make_slug(name)), default=None)

    # -- checking

    def check(self, context: dict[str, Any]) -> dict[str, TableSettings]:
        """Check the defaults alone, then every table with the defaults it inherits."""
        self._check_defaults(context)
        units = self._find_units()
        roots = {member: root for root, members in units.items() for member in members}
        for first, second, expected in find_twins(self.tables):
            for name in (first, second):
                self._report(("tables", second), f"expected {expected}", name)
        checked = {}
        for name, section in self.tables.items():
            if name in self._not_sections:
                continue
            merged = self._merged(name, section, roots)
            if "table" in section:
                self._report(("tables", name, "table"), describe_unknown(("table",)), name)
            try:
                checked[name] = TableSettings.model_validate({**merged, "table": name}, context=context)
            except ValidationError as error:
                for finding in list_findings(error):
                    self._report_in_table(name, finding)
        return self._together(checked, units)

    def _merged(self, name: str, section: Mapping[str, Any], roots: Mapping[str, str]) -> dict[str, Any]:
        root = roots.get(name)
        if root is None:
            return _merge(self.document, section)
        return _merge(section_of_member(_merge(self.document, self.tables[root]), self.document), section)

    def _find_units(self) -> dict[str, list[str]]:
        """The members of each root, by the names that their tables have here. Those that have no section get an empty one."""
        known = {qualify(name): name for name in self.tables}
        units: dict[str, list[str]] = {}
        claimed: dict[str, str] = {}
        for root, section in [*self.tables.items()]:
            if not (named := named_members(section)):
                continue
            units[root] = []
            for member in named:
                name = known.setdefault(qualify(member), member)
                first = claimed.setdefault(name, root)
                if name == root:
                    self._report(("tables", root, WITH), f"expected other tables than {root} itself, found it", root)
                elif first != root:
                    for table in (first, root):
                        self._report(
                            ("tables", root, WITH),
                            f"expected {name} in one table's `with`, found it in that of {first} too",
                            table,
                        )
                else:
                    units[root].append(name)
                    for key, text in faults_of_member(root, self.tables.setdefault(name, {})):
                        self._report(("tables", name, key), text, name)
        return units

    def _together(
        self, checked: dict[str, TableSettings], units: Mapping[str, Sequence[str]]
    ) -> dict[str, TableSettings]:
        """The tables with what they are archived together with. What is wrong with one table of a unit stops all of it."""
        for root, members in units.items():
            names = [root, *members]
            if root in checked:
                for expected in faults_of_root(checked[root]):
                    self._report(("tables", root, WITH), f"expected {expected}", root)
            wrong = [name for name in names if name not in checked or self._has_fault(name)]
            for name in names if wrong else ():
                if name not in wrong:
                    self._report(("tables", name), f"is archived together with {wrong[0]}, which has a fault", name)
            unit = UnitSettings(tuple(names))
            checked |= {name: checked[name].in_unit(unit) for name in names if name in checked}
        return checked

    def _has_fault(self, name: str) -> bool:
        return any(name in fault.tables for fault in self._faults.values())

    def _check_defaults(self, context: dict[str, Any]) -> None:
        """Report what is wrong with a default, whichever table inherits it."""
        if "table" in self.document:
            self._report(("table",), describe_unknown(("table",)))
        if WITH in self.document:
            self._report((WITH,), "expected it in the section of a table, found it at the top")
        if _holds(self.document, _CONFIRMED):
            self._report(
                _CONFIRMED,
                "expected it in the sections of tables, found it at the top, where it would confirm the slip of a table whose section is lost",
            )
        required = {"date_column": "date_column", "legal_basis": "legal_basis"}
        try:
            TableSettings.model_validate({**required, **self.document, "table": "table"}, context=context)
        except ValidationError as error:
            for finding in list_findings(error):
                if _holds(self.document, finding.key) and not (finding.mutual and self.tables):
                    self._report(finding.key, finding.text)

    def _report_in_table(self, name: str, finding: Finding) -> None:
        if finding.key == ("table",):
            self._report(("tables", name), finding.text, name)
        elif _holds(self.document, finding.key) and not _holds(self.tables[name], finding.key):
            self._report(finding.key, finding.text, name, inherited=True)
        else:
            self._report(("tables", name, *finding.key), finding.text, name)

    # -- reporting

    def _report_file(self, text: str) -> None:
        self._add(self.path.name, text)

    def _report(self, key: Key, text: str, table: str | None = None, *, inherited: bool = False) -> None:
        for depth in range(len(key), 0, -1):
            if variable := self._variables.get(key[:depth]):
                inside = show_key(key[depth:])
                return self._add(f"{variable}: {inside}" if inside else variable, text, table, inherited=inherited)
        return self._add(f"{self.path.name}: {show_key(key)}", text, table, inherited=inherited)

    def _add(self, where: str, text: str, table: str | None = None, *, inherited: bool = False) -> None:
        """Note a fault of one table, or of all if none is given."""
        line = f"{where}: {text}"
        if table is None:
            self._faults[line] = _Fault()
            return
        fault = self._faults.setdefault(line, _Fault([table], inherited))
        if fault.tables and table not in fault.tables:
            fault.tables.append(table)

    @property
    def spoils_all(self) -> bool:
        """Whether a fault affects the whole file."""
        return any(not fault.tables for fault in self._faults.values())

    def left_out(self) -> dict[str, str]:
        """For each table that has a fault, all that is wrong with it, in the file's order."""
        faults = {name: [line for line, fault in self._faults.items() if name in fault.tables] for name in self.tables}
        return {name: self._tell(f"table {name} in {self.path}", lines) for name, lines in faults.items() if lines}

    def raise_faults(self) -> None:
        if not self._faults:
            return
        sections = len(self.tables) - len(self._not_sections)
        shown = [
            line + (name_heirs(fault.tables, sections) if fault.inherited else "")
            for line, fault in self._faults.items()
        ]
        raise ConfigurationError(
            self._tell(str(self.path), shown),
            hint="Nothing was started and no row was touched; correct these lines (all settings: docs/reference/configuration.md).",
        )

    @staticmethod
    def _tell(whose: str, lines: Sequence[str]) -> str:
        count = len(lines)
        return f"{count} {'fault' if count == 1 else 'faults'} in the settings of {whose}" + "".join(
            f"\n  {line}" for line in lines
        )


class _Variables(TableSettings, BaseSettings):  # type: ignore[misc]  # one kind of configuration is both
    """The settings as pydantic-settings wants them described; no instance is ever created."""


class _OneVariable(EnvSettingsSource):
    """Reads a single variable as pydantic-settings does; it need not exist in this process's environment.

    Lists and sections are JSON, `null` is None. Text that is not JSON stays text, and the model checks it.
    """

    def __init__(self, name: str, text: str) -> None:
        self._variable = {name: text}
        super().__init__(_Variables, env_prefix="", env_nested_delimiter="__", env_parse_none_str="null")

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return parse_env_vars(self._variable, parse_none_str=self.env_parse_none_str)

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        try:
            return super().decode_complex_value(field_name, field, value)
        except (ValueError, RecursionError):
            return value


def _describe_version(found: object) -> str:
    newer = isinstance(found, int) and found > VERSION
    why = "; the file is for a newer Strongroom, and its keys may mean something else there: upgrade, or use the file of this version"
    return (
        f"expected {VERSION}, the version of the settings that this Strongroom reads, found {show(found)}" + why * newer
    )


def _holds(document: Mapping[str, Any], key: Key) -> bool:
    """Whether a document has a value of its own at a key; positions in a list count as the list."""
    value: Any = document
    for part in takewhile(lambda part: isinstance(part, str), key):
        if not isinstance(value, dict) or part not in value:
            return False
        value = value[part]
    return True


def _put(document: dict[str, Any], key: Key, value: Any) -> None:
    """Set one value. A section that is not a mapping stays as it is; it is reported with the other faults."""
    *sections, last = key
    place: Any = document
    for part in sections:
        place = place.setdefault(part, {})
        if not isinstance(place, dict):
            return
    place[last] = value


def _merge(defaults: Mapping[str, Any], section: Mapping[str, Any]) -> dict[str, Any]:
    """Lay a table's section over the defaults: key by key, and so inside the sections."""
    merged = {**defaults, **section}
    for name in SECTIONS:
        if isinstance(defaults.get(name), dict) and isinstance(section.get(name), dict):
            merged[name] = {**defaults[name], **section[name]}
    return merged


def _without_empty_sections(document: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out sections whose every line is a comment; YAML reads them as null."""
    return {name: value for name, value in document.items() if value is not None or name not in SECTIONS}
