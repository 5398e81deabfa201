"""Refuses a POST that another site made the browser send.

Airflow's cookie is sent with requests from other sites of the same domain, and Airflow has no token of its own. So a POST must come
from this very origin, and bring a token that only a page of this user has.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
from airflow.configuration import conf
from fastapi import HTTPException, Request, status
from itsdangerous import BadSignature, URLSafeTimedSerializer

TOKEN_SECONDS = 7200
"""How long a form may stay open."""


def make_token(user: BaseUser) -> str:
    """The token for the forms of a user."""
    return _serializer().dumps(user.get_id())


def require_own_form(request: Request, token: str, user: BaseUser) -> None:
    """Refuse a POST that does not come from a form of this application that this user opened.

    Raises:
        HTTPException: 403; nothing was done.
    """
    if not _same_origin(request):
        raise _forged("it came from another site")
    try:
        owner = _serializer().loads(token, max_age=TOKEN_SECONDS)
    except BadSignature:  # an expired one is one too
        raise _forged("its form is too old, or was not made here") from None
    if owner != user.get_id():
        raise _forged("its form was made for another user")


def _same_origin(request: Request) -> bool:
    site = request.headers.get("sec-fetch-site")
    if site is not None and site != "same-origin":
        return False
    origin = request.headers.get("origin")
    if origin is None:
        return site == "same-origin"
    own = {request.headers.get("host", ""), urlsplit(str(conf.get("api", "base_url", fallback="") or "")).netloc}
    return urlsplit(origin).netloc in own - {""}


def _serializer() -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(conf.get_mandatory_value("api", "secret_key"), salt="strongroom-pages")


def _forged(why: str) -> HTTPException:
    return HTTPException(
        status.HTTP_403_FORBIDDEN, f"This request was refused, because {why}. Nothing was done. Open the page again."
    )
