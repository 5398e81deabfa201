"""A store on a real server that answers for one archive as S3 does for a Glacier class, which the server lacks."""

from __future__ import annotations

from botocore.exceptions import ClientError

from strongroom.object_keys.archives import ArchiveId


class Frozen:
    """A client whose objects of one archive lie in a Glacier class."""

    def __init__(self, client, archive: ArchiveId) -> None:
        self._client, self._archive = client, archive

    def get_object(self, **request):
        if request["Key"].startswith(self._archive.archive_prefix):
            raise ClientError({"Error": {"Code": "InvalidObjectState", "Message": "frozen"}}, "GetObject")
        return self._client.get_object(**request)

    def __getattr__(self, name: str):
        return getattr(self._client, name)
