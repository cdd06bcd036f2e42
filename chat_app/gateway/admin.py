"""`/v1/admin`: what the admin pages change, with an API key of the scope `admin`.

Staff decide reviews; plans and who is on them are administrators'.
"""

from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request

from chat_app.accounts.identity import Identity
from chat_app.gateway.caller import GetParley, by_key
from chat_app.gateway.errors import ApiError

RowId = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$")]
PlanId = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")]


class _Body(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class Decision(_Body):
    """What a person decided about a refusal."""

    decision: Literal["upheld", "overturned"]
    note: str = Field("", max_length=2_000)


class PlanFields(_Body):
    """A plan. Null: no limit."""

    name: str
    monthly_tokens: int | None
    requests_per_minute: int
    concurrent_streams: int
    max_output_tokens: int | None = None
    weight: int = 1
    position: int = 0


class PlanChoice(_Body):
    """The plan that a person is to have."""

    plan: PlanId


def router(get_parley: GetParley) -> APIRouter:
    """The routes, over the running instance."""
    admin = APIRouter(prefix="/v1/admin")

    async def staff(request: Request) -> Identity:
        identity = (await by_key(get_parley(), request, "admin")).identity
        if not identity.is_staff:
            raise ApiError(403, "staff_only", "This is for staff and administrators.")
        return identity

    async def administrator(request: Request) -> Identity:
        identity = (await by_key(get_parley(), request, "admin")).identity
        if not identity.is_admin:
            raise ApiError(403, "admins_only", "This is for administrators.")
        return identity

    Staff = Annotated[Identity, Depends(staff)]
    Administrator = Annotated[Identity, Depends(administrator)]

    @admin.get("/reviews")
    async def reviews(
        _: Staff, decided: bool = False, limit: Annotated[int, Query(ge=1, le=500)] = 100
    ) -> dict[str, Any]:
        room = get_parley().reviews
        found = await (room.decided(limit) if decided else room.waiting(limit))
        return {"object": "list", "data": [review.model_dump() for review in found]}

    @admin.post("/reviews/{id}")
    async def decide(who: Staff, id: RowId, body: Decision) -> dict[str, Any]:
        await get_parley().reviews.decide(id, body.decision, who.user_id, body.note)
        return {"id": id, "decision": body.decision}

    @admin.get("/plans")
    async def plans(_: Administrator, archived: bool = False) -> dict[str, Any]:
        room = get_parley().plans
        found = await room.all(archived=archived)
        return {"object": "list", "data": [{**asdict(p), "members": await room.members(p.id)} for p in found]}

    @admin.post("/plans/{id}")
    async def save(_: Administrator, id: str, body: PlanFields) -> dict[str, Any]:
        return asdict(await get_parley().plans.save(id, **body.model_dump()))

    @admin.delete("/plans/{id}")
    async def archive(_: Administrator, id: Annotated[str, Path(pattern=r"^[a-z0-9-]{1,32}$")]) -> dict[str, Any]:
        await get_parley().plans.archive(id)
        return {"id": id, "archived": True}

    @admin.get("/users")
    async def users(
        _: Administrator, search: str = "", limit: Annotated[int, Query(ge=1, le=500)] = 100
    ) -> dict[str, Any]:
        found = await get_parley().accounts.people(search, limit)
        return {
            "object": "list",
            "data": [{**asdict(p.identity), "created_at": p.created_at, "disabled": p.disabled} for p in found],
        }

    @admin.post("/users/{id}/plan")
    async def set_plan(_: Administrator, id: RowId, body: PlanChoice) -> dict[str, Any]:
        await get_parley().accounts.set_plan(id, body.plan)
        return {"id": id, "plan": body.plan}

    return admin
