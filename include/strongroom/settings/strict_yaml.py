"""A small, strict reading of YAML for files that people write: nothing is guessed, every oddity is named with its line.

What a general YAML loader does silently is refused here: two equal keys (one of them would be lost), keys that are not
text, tags, merge keys. A date stays the text that was written. The text is read as a stream of events: a loader that
builds nodes first can be brought to overflow the C stack by some thousand brackets.
"""

from __future__ import annotations

from typing import Any

import yaml

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAGS = "tag:yaml.org,2002:"
_MAX_DEPTH = 20
"""Far deeper than any settings file, far shallower than Python's stack."""
_MAX_BITS = 64
"""Python refuses to print an integer of some thousand digits, which would spoil the message about it."""


class YamlError(ValueError):
    """The text cannot be read any further; the message begins with the line where that can be said."""


def parse_yaml(text: str) -> tuple[Any, list[str]]:
    """Read one YAML document into dict, list, str, int, float, bool and None.

    Args:
        text: The file's text; without any content the document is None.

    Returns:
        The document, and one sentence `line N: …` for each fault that did not stop the reading, in the file's order.

    Raises:
        YamlError: The text is not YAML, or not the part of YAML that is read here.
    """
    try:
        reader = _Reader(text)
        return reader.read_document(), reader.faults
    except UnicodeEncodeError:  # an environment variable may hold bytes that are no text
        raise YamlError("not text, some of its bytes are not characters") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}: " if mark else ""
        if mark and text[mark.index : mark.index + 1] == "\t":
            raise YamlError(f"{where}not YAML, it is indented with a tab; use spaces") from None
        raise YamlError(f"{where}not YAML, {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise YamlError(f"not YAML, {str(error).splitlines()[0]}") from None


class _Reader:
    """Builds values from the parser's events and remembers what is wrong with them."""

    def __init__(self, text: str) -> None:
        self._loader = _LOADER(text)
        self._anchors: dict[str, Any] = {}
        self.faults: list[str] = []

    def read_document(self) -> Any:
        document, documents = None, 0
        while self._loader.check_event():
            event = self._loader.get_event()
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise YamlError(f"{_line(event)}: a second document begins, expected one")
                document = self._read_value(self._loader.get_event(), depth=0)
        return document

    def _read_value(self, event: Any, depth: int) -> Any:
        if depth > _MAX_DEPTH:
            raise YamlError(f"{_line(event)}: nested more than {_MAX_DEPTH} levels deep")
        if isinstance(event, yaml.AliasEvent):
            if event.anchor not in self._anchors:
                raise YamlError(f"{_line(event)}: *{event.anchor} refers to nothing that is complete before it")
            return self._anchors[event.anchor]
        if event.tag not in (None, "!", f"{_TAGS}str"):
            raise YamlError(f"{_line(event)}: tags are not read here, found {event.tag}")
        if isinstance(event, yaml.ScalarEvent):
            value = self._read_scalar(event)
        elif isinstance(event, yaml.SequenceStartEvent):
            value = self._read_list(depth)
        else:
            value = self._read_mapping(depth)
        if event.anchor is not None:
            self._anchors[event.anchor] = value
        return value

    def _read_list(self, depth: int) -> list[Any]:
        items = []
        while not isinstance(event := self._loader.get_event(), yaml.SequenceEndEvent):
            items.append(self._read_value(event, depth + 1))
        return items

    def _read_mapping(self, depth: int) -> dict[str, Any]:
        mapping: dict[str, Any] = {}
        lines: dict[str, str] = {}
        while not isinstance(event := self._loader.get_event(), yaml.MappingEndEvent):
            line = _line(event)
            key = self._read_value(event, depth + 1)
            value = self._read_value(self._loader.get_event(), depth + 1)
            if not isinstance(key, str):
                self.faults.append(f"{line}: expected text as a key, found {_describe(key)}; quote it if it is a name")
            elif key == "<<":
                self.faults.append(f"{line}: merge keys are not read here; put what tables share at the top level")
            elif key in mapping:
                self.faults.append(f"{line}: key {key!r} stands here a second time, first on {lines[key]}")
            else:
                mapping[key], lines[key] = value, line
        return mapping

    def _read_scalar(self, event: Any) -> Any:
        """Tell numbers, true, false and null from text as YAML 1.1 does, except that dates stay text."""
        tag = event.tag or self._loader.resolve(yaml.ScalarNode, event.value, event.implicit)
        node = yaml.ScalarNode(tag, event.value)
        try:
            if tag == f"{_TAGS}null":
                return None
            if tag == f"{_TAGS}bool":
                return self._loader.construct_yaml_bool(node)
            if tag == f"{_TAGS}int":
                return _bounded(self._loader.construct_yaml_int(node))
            if tag == f"{_TAGS}float":
                return self._loader.construct_yaml_float(node)
        except (ValueError, OverflowError):
            self.faults.append(f"{_line(event)}: a number is too large to be read")
            return None
        return event.value


def _bounded(number: int) -> int:
    if number.bit_length() > _MAX_BITS:
        raise OverflowError
    return number


def _line(event: Any) -> str:
    return f"line {event.start_mark.line + 1}"


def _describe(key: Any) -> str:
    if isinstance(key, dict):
        return "a mapping"
    return "a list" if isinstance(key, list) else "nothing" if key is None else str(key)
