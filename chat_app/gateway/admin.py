"""`/v1/admin`: what the admin pages change, with an API key of the scope `admin`.

Staff decide reviews; plans, who is on them, and the audit trail are administrators'. Whoever is refused here has an
entry in the audit trail.
"""

from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request

from chat_app.accounts.identity import Identity
from chat_app.audit.reading import Wanted
from chat_app.data.acts import Act, Action, By, Outcome
from chat_app.gateway.caller import GetParley, address, check_scope, granted
from chat_app.gateway.errors import ApiError

RowId = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$")]
PlanId = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")]
ShortText = Annotated[str, Query(pattern=r"^[\w.:/{}<>*-]{0,64}$")]
Moment = Annotated[int, Query(ge=0, lt=2**53, description="milliseconds UTC")]
REFUSALS = 30
"""Entries a minute about one person who is refused."""


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

    async def entered(request: Request, role: Literal["staff", "admin"]) -> By:
        """Who calls, and where from. Raises `ApiError` (401, 403)."""
        parley = get_parley()
        grant = await granted(parley, request.headers.get("authorization", ""))
        by = By(grant.identity.user_id, address(request, parley.settings))
        try:
            check_scope(grant, "admin")
            _check_role(grant.identity, role)
        except ApiError as error:
            asked = {"method": request.method, "code": error.code}
            act = Act("admin_request", by, "route", request.scope["route"].path, "refused", asked)
            if await parley.audit.has_room(f"admin:{by.actor}", REFUSALS):
                await parley.audit.record(act)
            raise
        return by

    async def staff(request: Request) -> By:
        return await entered(request, "staff")

    async def administrator(request: Request) -> By:
        return await entered(request, "admin")

    Staff = Annotated[By, Depends(staff)]
    Administrator = Annotated[By, Depends(administrator)]

    @admin.get("/reviews")
    async def reviews(
        who: Staff, decided: bool = False, limit: Annotated[int, Query(ge=1, le=500)] = 100
    ) -> dict[str, Any]:
        room = get_parley().reviews
        found = await (room.decided(limit) if decided else room.waiting(limit))
        await room.looked(found, who)
        return {"object": "list", "data": [review.model_dump() for review in found]}

    @admin.post("/reviews/{id}")
    async def decide(who: Staff, id: RowId, body: Decision) -> dict[str, Any]:
        await get_parley().reviews.decide(id, body.decision, who.actor, body.note, address=who.address)
        return {"id": id, "decision": body.decision}

    @admin.get("/plans")
    async def plans(_: Administrator, archived: bool = False) -> dict[str, Any]:
        room = get_parley().plans
        found = await room.all(archived=archived)
        return {"object": "list", "data": [{**asdict(p), "members": await room.members(p.id)} for p in found]}

    @admin.post("/plans/{id}")
    async def save(who: Administrator, id: str, body: PlanFields) -> dict[str, Any]:
        return asdict(await get_parley().plans.save(id, **body.model_dump(), by=who))

    @admin.delete("/plans/{id}")
    async def archive(who: Administrator, id: Annotated[str, Path(pattern=r"^[a-z0-9-]{1,32}$")]) -> dict[str, Any]:
        await get_parley().plans.archive(id, by=who)
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
    async def set_plan(who: Administrator, id: RowId, body: PlanChoice) -> dict[str, Any]:
        await get_parley().accounts.set_plan(id, body.plan, by=who)
        return {"id": id, "plan": body.plan}

    @admin.get("/audit")
    async def audit(
        _: Administrator,
        actor: ShortText = "",
        object: ShortText = "",
        action: Action | Literal[""] = "",
        outcome: Outcome | Literal[""] = "",
        since: Moment | None = None,
        until: Moment | None = None,
        at: ShortText = "",
        limit: Annotated[int, Query(ge=1, le=500)] = 100,
    ) -> dict[str, Any]:
        wanted = Wanted(actor, object, action, outcome, since, until)
        page = await get_parley().audit.page(wanted, at, limit)
        return {"object": "list", "data": page.entries, "newer": page.newer, "older": page.older}

    return admin


def _check_role(who: Identity, role: Literal["staff", "admin"]) -> None:
    """Raises `ApiError` (403)."""
    if role == "admin" and not who.is_admin:
        raise ApiError(403, "admins_only", "This is for administrators.")
    if not who.is_staff:
        raise ApiError(403, "staff_only", "This is for staff and administrators.")
