"""The application of the pages: its routes, its static files and its errors. Every address needs a user of Airflow."""

from __future__ import annotations

from airflow.api_fastapi.core_api.security import get_user
from fastapi import Depends, FastAPI, HTTPException, Request, status
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse
from starlette.exceptions import HTTPException as StarletteHTTPException

from strongroom.errors import StrongroomError
from strongroom.statistics.page import STYLE
from strongroom_airflow.pages import act, archive, partition, query, search, totals
from strongroom_airflow.pages import map as map_page
from strongroom_airflow.pages.rendering import HEADERS, HERE, render

app = FastAPI(openapi_url=None, dependencies=[Depends(get_user)])  # else the list of routes would be public
for one in (map_page, partition, archive, totals, search, act, query):
    app.include_router(one.router)

_STATIC = {one.name: one for one in (*(HERE / "static").iterdir(), STYLE)}

_TITLES = {
    status.HTTP_401_UNAUTHORIZED: "Log in first",
    status.HTTP_403_FORBIDDEN: "Not allowed",
    status.HTTP_404_NOT_FOUND: "Not found",
}


@app.get("/static/{name}")
def show_static(name: str) -> FileResponse:
    """A style sheet or script."""
    if name not in _STATIC:
        raise HTTPException(status.HTTP_404_NOT_FOUND, "There is no such file.")
    return FileResponse(_STATIC[name], headers=HEADERS | {"Cache-Control": "private, max-age=60"})


@app.exception_handler(StarletteHTTPException)
def show_refusal(_: Request, error: StarletteHTTPException) -> HTMLResponse:
    """What was refused, as a page."""
    title = _TITLES.get(error.status_code, "This did not work")
    return render("error.html", title=title, lines=[str(error.detail)], status_code=error.status_code)


@app.exception_handler(RequestValidationError)
def show_bad_request(_: Request, error: RequestValidationError) -> HTMLResponse:
    """Which part of the address or form cannot be used. What was sent is not repeated."""
    lines = [f"{'.'.join(map(str, one['loc'][1:]))}: {one['msg']}" for one in error.errors()]
    return render(
        "error.html",
        title="This address or form is not complete",
        lines=lines,
        status_code=status.HTTP_422_UNPROCESSABLE_CONTENT,
    )


@app.exception_handler(Exception)
def show_fault(_: Request, error: Exception) -> HTMLResponse:
    """An error that nobody expected. Starlette raises it again afterwards, so the web server's log has it."""
    lines = [
        f"The page failed with {type(error).__name__}; the web server's log has the rest.",
        "Nothing was changed. Open it again; if it fails again, please report it.",
    ]
    return render(
        "error.html", title="This did not work", lines=lines, status_code=status.HTTP_500_INTERNAL_SERVER_ERROR
    )


@app.exception_handler(StrongroomError)
def show_error(_: Request, error: StrongroomError) -> HTMLResponse:
    """An error of the domain with its hint, as a page."""
    return render("error.html", title="This did not work", lines=str(error).splitlines(), status_code=502)
