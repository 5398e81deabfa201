"""The pages as a browser would ask for them, without one: real tokens, Airflow's own dependencies, Starlette's test client."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html.parser import HTMLParser
from urllib.parse import urlencode

ORIGIN = "http://airflow.test"
"""Where the test client believes that the web server is."""


class _Words(HTMLParser):
    """The words of a page, its links and the values of its form."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []
        self.links: list[tuple[str, str]] = []
        self.fields: list[tuple[str, str]] = []
        self.tags: list[str] = []
        self._address: str | None = None
        self._linked: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.tags.append(tag)
        self.words.append("" if tag == "wbr" else " ")
        if tag == "a":
            self._address, self._linked = given.get("href", ""), []
        if tag == "input" and given.get("type") == "hidden":
            self.fields.append((given["name"], given.get("value", "")))
        self.words.append(f" {given['title']} " if "title" in given else "")

    def handle_endtag(self, tag: str) -> None:
        self.words.append(" ")
        if tag == "a" and self._address is not None:
            self.links.append((" ".join("".join(self._linked).split()), self._address))
            self._address = None

    def handle_data(self, data: str) -> None:
        self.words.append(data)
        if self._address is not None:
            self._linked.append(data)


@dataclass(frozen=True)
class Answer:
    """What a page answered."""

    status: int
    headers: Mapping[str, str]
    html: str

    @property
    def text(self) -> str:
        """All words of the page, the tips of its cells included, with single spaces."""
        return " ".join("".join(self._read().words).split())

    @property
    def tags(self) -> Sequence[str]:
        """The names of its elements, in their order."""
        return self._read().tags

    @property
    def links(self) -> dict[str, str]:
        """Address by the words of each link."""
        return dict(self._read().links)

    @property
    def fields(self) -> list[tuple[str, str]]:
        """Name and value of each hidden field."""
        return self._read().fields

    @property
    def token(self) -> str:
        """What the page's form proves its origin with."""
        return dict(self.fields)["token"]

    def cells(self) -> dict[str, list[str]]:
        """On the map: the states of each cell that leads to a partition, the worst two, by `table/key`."""
        found = re.findall(r'<a class="([^"]*)"[^>]*data-cell="([^"]*)"', self.html)
        return {name: [css[2:] for css in classes.split() if css[:2] in ("s-", "t-")] for classes, name in found}

    def _read(self) -> _Words:
        parser = _Words()
        parser.feed(self.html)
        return parser


class Visitor:
    """One user of Airflow, or nobody, and the answers that they get."""

    def __init__(self, name: str | None, role: str = "admin") -> None:
        from airflow.api_fastapi.app import get_auth_manager
        from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
        from fastapi import FastAPI
        from starlette.testclient import TestClient

        from strongroom_plugin import Pages

        server = FastAPI()
        server.mount("/strongroom", Pages())  # as Airflow mounts what the plugin names
        self.name = name
        self._client = TestClient(server, base_url=ORIGIN, follow_redirects=False)
        if name is not None:
            user = SimpleAuthManagerUser(username=name, role=role)
            self._client.cookies.set("_token", get_auth_manager().generate_jwt(user))

    def get(self, path: str, **query: str | int) -> Answer:
        """Open a page; ``from_`` stands for the parameter ``from``."""
        given = {name.rstrip("_"): value for name, value in query.items()}
        return self.open(f"/strongroom{path}{'?' if given else ''}{urlencode(given)}")

    def open(self, address: str) -> Answer:
        """Open the address of a link."""
        return _answer(self._client.get(address))

    def post(self, path: str, form: Sequence[tuple[str, str]], **headers: str) -> Answer:
        """Send a form from this very site, unless the headers say otherwise."""
        sent = {"Origin": ORIGIN, "Content-Type": "application/x-www-form-urlencoded"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        return _answer(self._client.post(f"/strongroom{path}", content=urlencode(form), headers=sent))

    def submit(self, page: Answer, **fields: str) -> Answer:
        """Fill in the form of a page that asks for an action, and send it."""
        return self.post("/act", [*page.fields, *fields.items()])


def _answer(response: object) -> Answer:
    from httpx import Response

    assert isinstance(response, Response)
    return Answer(response.status_code, response.headers, response.text)
