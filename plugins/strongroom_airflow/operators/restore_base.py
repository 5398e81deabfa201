"""What the steps of a restore share: errors, and one line of evidence in the log."""

from __future__ import annotations

import time
from abc import abstractmethod
from typing import Any

from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowFailException

from strongroom.errors import StrongroomError


class RestoreOperator(BaseOperator):
    """A step of a restore. An error that a retry cannot mend fails the task at once."""

    ui_color = "#eef3e6"

    def execute(self, context: Context) -> Any:
        started = time.monotonic()
        try:
            sentence, facts, result = self.step(context)
        except StrongroomError as error:
            if error.retryable:
                raise error from None
            raise AirflowFailException(str(error)) from None
        self.log.info(sentence, **facts, seconds=round(time.monotonic() - started, 3))
        return result

    @abstractmethod
    def step(self, context: Context) -> tuple[str, dict[str, Any], Any]:
        """Do the work.

        :return: A sentence and structured facts for the log, and what goes into XCom.
        """
