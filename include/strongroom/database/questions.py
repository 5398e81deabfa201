"""Questions that are noted with their answers, so that all of them can be asked again at once.

Whoever decides by the answers alone asks the same questions and decides the same, as long as each of them has its answer.
"""

from __future__ import annotations

from dataclasses import dataclass

import psycopg
from psycopg.abc import Params, QueryNoTemplate

from strongroom.database.session import Connection


@dataclass(frozen=True)
class _Question:
    """A question and its answer.

    Attributes:
        form: An expression that gives the question's rows as one JSON array of arrays, or NULL if there are none.
        answer: These rows.
        of_rows: Whether it names a user's table. It fails when that table has changed, where one on the catalogue does not.
    """

    form: str
    answer: list[list[object]]
    of_rows: bool


class Questions:
    """A session that notes what it is asked, and what the server answers.

    Args:
        connection: Where the questions are asked. A column of an answer must be of a type that JSON shows as the driver
            does: an integer of up to 64 bits, a boolean, text, or an array of text.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._noted: list[_Question] = []

    def execute(self, query: QueryNoTemplate, params: Params | None = None) -> psycopg.Cursor[tuple[object, ...]]:
        """Ask one question, and note it."""
        cursor = self._connection.execute(query, params)
        answer = [list(row) for row in cursor]
        asked = psycopg.ClientCursor(self._connection).mogrify(query, params)
        form = _as_json(asked, len(cursor.description or ()))
        self._noted.append(_Question(form, answer, of_rows=not isinstance(query, str)))
        if answer:
            cursor.scroll(0, mode="absolute")
        return cursor

    def ask_again(self, also: str) -> tuple[bool, object]:
        """Ask all questions again in one statement, which the server plans only once.

        Questions of rows make a second statement, and only while those of the catalogue have their answers: else they
        might fail.

        Args:
            also: An SQL expression that is asked in the same statement.

        Returns:
            Whether each question has the answer that was noted; and the value of the expression.
        """
        of_catalogue, of_rows = ([one for one in self._noted if one.of_rows is kind] for kind in (False, True))
        (value, *answers) = self._ask([also, *(one.form for one in of_catalogue)])
        same = _are(answers, of_catalogue)
        if same and of_rows:
            same = _are(self._ask([one.form for one in of_rows]), of_rows)
        return same, value

    def _ask(self, expressions: list[str]) -> tuple[object, ...]:
        # Literals instead of parameters: with parameters the server would plan again for each of the first executions.
        statement = f"SELECT {', '.join(expressions)}".encode()
        row = self._connection.execute(statement, prepare=True).fetchone()
        assert row is not None  # noqa: S101 - a SELECT without FROM has one row
        return row


def _as_json(question: str, columns: int) -> str:
    names = [f"c{number}" for number in range(columns)]
    values = ", ".join(f"q.{name}" for name in names)
    return f"(SELECT json_agg(json_build_array({values})) FROM ({question}\n) AS q ({', '.join(names)}))"  # noqa: S608 - asked before


def _are(answers: list[object] | tuple[object, ...], noted: list[_Question]) -> bool:
    return [answer or [] for answer in answers] == [one.answer for one in noted]
