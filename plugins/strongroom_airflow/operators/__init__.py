"""One operator for each step, named after it."""

from strongroom_airflow.operators.checksum import ChecksumOperator
from strongroom_airflow.operators.compress import CompressOperator
from strongroom_airflow.operators.delete import DeleteOperator
from strongroom_airflow.operators.detach import DetachOperator
from strongroom_airflow.operators.extract_to_staging import ExtractToStagingOperator
from strongroom_airflow.operators.plan import PlanOperator
from strongroom_airflow.operators.report import ReportOperator
from strongroom_airflow.operators.seal import SealOperator
from strongroom_airflow.operators.upload import UploadOperator
from strongroom_airflow.operators.verify import VerifyOperator

__all__ = [
    "ChecksumOperator",
    "CompressOperator",
    "DeleteOperator",
    "DetachOperator",
    "ExtractToStagingOperator",
    "PlanOperator",
    "ReportOperator",
    "SealOperator",
    "UploadOperator",
    "VerifyOperator",
]
