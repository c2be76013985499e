"""`/v1/projects`."""

import uuid
from collections.abc import Callable
from datetime import datetime

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute

from examples.roughy.api.errors import NotFound
from examples.roughy.api.paging import answer_page, parse_paging
from examples.roughy.api.routing import resource
from examples.roughy.api.validation import Fields, path_id, read_json
from examples.roughy.api.wire import timestamp, timestamp_or_none
from examples.roughy.ids import uuid7
from examples.roughy.keys import Keys
from examples.roughy.ledger import lock_account
from examples.roughy.storage.database import Database
from examples.roughy.storage.removals import Remover
from examples.roughy.storage.tables import Asset, Project

_STATES = ("active", "archived")


async def find_project(
    session: AsyncSession, project_id: uuid.UUID, account_id: uuid.UUID, *, lock: bool = False
) -> Project:
    """Return the project; what belongs to somebody else does not exist.

    With `lock` nobody changes it, or adds assets to it, until the transaction ends.
    """
    project = await session.get(Project, project_id, with_for_update=lock)
    if project is None or project.account_id != account_id:
        raise NotFound("there is no such project")
    return project


class Projects:
    def __init__(
        self, db: Database, keys: Keys, remover: Remover, clock: Callable[[], datetime]
    ) -> None:
        self._db = db
        self._keys = keys
        self._remover = remover
        self._clock = clock

    def routes(self) -> list[BaseRoute]:
        one = "/v1/projects/{project_id}"
        return [
            resource("/v1/projects", get=self.list, post=self.create),
            resource(one, get=self.read, patch=self.update, delete=self.delete),
        ]

    async def create(self, request: Request) -> Response:
        account_id = await self._keys.authenticate(request)
        body = Fields("body", await read_json(request))
        body.only({"name"})
        name = body.text("name", longest=256)
        body.check()
        now = self._clock()
        project = Project(
            id=uuid7(now), account_id=account_id, name=name, created_at=now, updated_at=now
        )
        async with self._db.writing() as session:
            session.add(project)
        return JSONResponse(project_json(project), 201)

    async def list(self, request: Request) -> Response:
        account_id = await self._keys.authenticate(request)
        query = Fields("query", request.query_params)
        state = query.choice("state", _STATES) or "active"
        paging = parse_paging(query)
        query.check()
        archived = Project.archived_at.is_not(None)
        projects = select(Project).where(
            Project.account_id == account_id, archived if state == "archived" else ~archived
        )
        newest_first = (Project.created_at.desc(), Project.id.desc())
        async with self._db.reading() as session:
            return await answer_page(session, projects, newest_first, paging, summary_json)

    async def read(self, request: Request) -> Response:
        account_id = await self._keys.authenticate(request)
        project_id = path_id(request, "project_id")
        async with self._db.reading() as session:
            return JSONResponse(project_json(await find_project(session, project_id, account_id)))

    async def update(self, request: Request) -> Response:
        account_id = await self._keys.authenticate(request)
        project_id = path_id(request, "project_id")
        body = Fields("body", await read_json(request))
        body.only({"name", "state"})
        name = body.text("name", longest=256) if body.has("name") else None
        state = body.choice("state", _STATES)
        body.check()
        async with self._db.writing() as session:
            project = await find_project(session, project_id, account_id, lock=True)
            self._change(project, name, state)
        return JSONResponse(project_json(project))

    def _change(self, project: Project, name: str | None, state: str | None) -> None:
        now = self._clock()
        if name is not None and name != project.name:
            project.name, project.updated_at = name, now
        if state is not None and state != state_of(project):
            project.archived_at = now if state == "archived" else None
            project.updated_at = now

    async def delete(self, request: Request) -> Response:
        """Remove the project, its assets and their bytes."""
        account_id = await self._keys.authenticate(request)
        project_id = path_id(request, "project_id")
        async with self._db.writing() as session:
            await lock_account(session, account_id)
            project = await find_project(session, project_id, account_id, lock=True)
            removed = await self._remover.mark(session, Asset.project_id == project.id)
            await session.execute(delete(Project).where(Project.id == project.id))
        await self._remover.erase(removed)
        return Response(status_code=204)


def state_of(project: Project) -> str:
    return "active" if project.archived_at is None else "archived"


def summary_json(project: Project) -> dict[str, object]:
    """As a list shows it."""
    return {
        "id": str(project.id),
        "name": project.name,
        "state": state_of(project),
        "created_at": timestamp(project.created_at),
        "updated_at": timestamp(project.updated_at),
    }


def project_json(project: Project) -> dict[str, object]:
    return {**summary_json(project), "archived_at": timestamp_or_none(project.archived_at)}
