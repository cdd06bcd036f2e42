"""The list of people and what an administrator changes in it. It does not know who may: its callers have
asked."""

from collections.abc import Collection, Iterator

from chat_app.accounts.identity import COLUMNS, ROLES, AccountError, Identity, Person
from chat_app.data.acts import NOBODY, OBJECT, TENANT, Act, By, Recorder, Unrecorded
from chat_app.data.db.base import Database, Statement, Unmet
from chat_app.data.ids import now_ms

__all__ = ["TENANT", "Roster", "one_at_a_time"]

_AT_ONCE = 500
"""People that one query asks about."""
_OTHER_ADMIN = "EXISTS (SELECT 1 FROM users o WHERE o.id <> $1 AND o.role = 'admin' AND o.disabled_at IS NULL)"

_WORDS = {
    "not_found": "There is no such account.",
    "plan_unknown": "There is no such plan, or it was archived.",
    "last_admin": "This is the only administrator. Make another account an administrator first.",
}


def one_at_a_time() -> Statement:
    """Locks the tenant's row (making it if need be) until the batch ends, so that what the batch then asks
    about all accounts stays true until it is committed."""
    return Statement(
        "INSERT INTO tenant (id, name, created_at) VALUES ($1, 'Default', $2)"
        " ON CONFLICT (id) DO UPDATE SET name = tenant.name",
        (TENANT, now_ms()),
    )


class Roster:
    """The `users` table, as an administrator works on it."""

    def __init__(self, db: Database, audit: Recorder | None = None) -> None:
        self._db = db
        self._audit: Recorder = audit or Unrecorded()

    async def is_empty(self) -> bool:
        """Whether nobody has an account yet, so that the next one made will be the administrator's."""
        return not await self._db.query("SELECT id FROM users LIMIT 1")

    async def by_email(self, email: str) -> Identity | None:
        """The account with this (normalised) e-mail address, disabled or not."""
        rows = await self._db.query(f"SELECT {COLUMNS} FROM users u WHERE u.email = $1", email)
        return Identity.from_row(rows[0]) if rows else None

    async def people(self, search: str = "", limit: int = 100) -> list[Person]:
        """Accounts whose e-mail address or name contains `search`, oldest first."""
        typed = "".join(c for c in search.strip().lower() if c.isprintable())
        like = "".join(f"\\{c}" if c in "\\%_" else c for c in typed)
        rows = await self._db.query(
            f"SELECT {COLUMNS}, u.created_at, u.disabled_at FROM users u"
            " WHERE u.closed_at IS NULL AND (u.email LIKE $1 ESCAPE '\\' OR LOWER(u.name) LIKE $1 ESCAPE '\\')"
            " ORDER BY u.created_at, u.id LIMIT $2",
            f"%{like}%",
            limit,
        )
        return [Person(Identity.from_row(r), r["created_at"], r["disabled_at"] is not None) for r in rows]

    async def emails(self, user_ids: Collection[str]) -> dict[str, str]:
        """The e-mail addresses of these people by their ids; of those that there are."""
        found, asked = {}, sorted(user_ids)
        for at in range(0, len(asked), _AT_ONCE):
            part = asked[at : at + _AT_ONCE]
            places = ", ".join(f"${n}" for n in range(1, len(part) + 1))
            sql = f"SELECT id, email FROM users WHERE closed_at IS NULL AND id IN ({places})"
            found.update({row["id"]: row["email"] for row in await self._db.query(sql, *part)})
        return found

    async def closed_with_chats(self) -> list[str]:
        """The ids of closed accounts that have a chat which is not deleted."""
        rows = await self._db.query(
            "SELECT DISTINCT u.id FROM users u JOIN thread t ON t.user_id = u.id"
            " WHERE u.closed_at IS NOT NULL AND t.deleted_at IS NULL"
        )
        return [str(row["id"]) for row in rows]

    async def set_plan(self, user_id: str, plan_id: str, *, by: By = NOBODY) -> None:
        """Move a person to another plan, in force with their next turn. Raises `AccountError`."""
        await self._change(
            Statement("SELECT id FROM plan WHERE id = $1 AND archived_at IS NULL", (plan_id,), must="plan_unknown"),
            Statement("UPDATE users SET plan_id = $2 WHERE id = $1", (user_id, plan_id), must="not_found"),
            *self._audit.statements(Act("plan_assign", by, "account", user_id, details={"plan": plan_id})),
        )

    async def set_role(self, user_id: str, role: str, *, by: By = NOBODY) -> None:
        """Make a person user, staff or admin. The last administrator stays one. Raises `AccountError`."""
        if role not in ROLES:
            raise AccountError("bad_role", f"A role is one of {', '.join(ROLES)}.")
        stays = "" if role == "admin" else f" AND {_OTHER_ADMIN}"
        await self._change(
            one_at_a_time(),
            _exists(user_id),
            *self._was(user_id, role, by),
            Statement(f"UPDATE users SET role = $2 WHERE id = $1{stays}", (user_id, role), must="last_admin"),
        )

    def _was(self, user_id: str, role: str, by: By) -> Iterator[Statement]:
        """What records a change of role, before it: the one from the role that the person then has."""
        for former in ROLES:
            act = Act("role_change", by, "account", user_id, details={"from": former, "to": role})
            has = f"EXISTS (SELECT 1 FROM users u WHERE u.id = {OBJECT} AND u.role = '{former}')"
            yield from self._audit.statements(act, has) if former != role else ()

    async def disable(self, user_id: str, *, by: By = NOBODY) -> None:
        """Lock a person out at once: their browsers and keys are refused from now on. Raises
        `AccountError`."""
        await self._change(
            one_at_a_time(),
            _exists(user_id),
            Statement(
                f"UPDATE users SET disabled_at = $2 WHERE id = $1 AND {_OTHER_ADMIN}",
                (user_id, now_ms()),
                must="last_admin",
            ),
            Statement("DELETE FROM browser_session WHERE user_id = $1", (user_id,)),
            *self._audit.statements(Act("account_disable", by, "account", user_id)),
        )

    async def enable(self, user_id: str, *, by: By = NOBODY) -> None:
        """Undo `disable`; the person signs in anew. Raises `AccountError`."""
        await self._change(
            Statement(
                "UPDATE users SET disabled_at = NULL WHERE id = $1 AND closed_at IS NULL", (user_id,), must="not_found"
            ),
            *self._audit.statements(Act("account_enable", by, "account", user_id)),
        )

    async def _change(self, *statements: Statement) -> None:
        try:
            await self._db.batch(*statements)
        except Unmet as unmet:
            raise AccountError(unmet.name, _WORDS[unmet.name]) from unmet


def _exists(user_id: str) -> Statement:
    return Statement("SELECT id FROM users WHERE id = $1", (user_id,), must="not_found")


def closed(user_id: str, must: str) -> Statement:
    """Locks a person out for good and leaves nothing of them in the account's row; unmet as `must` for the last
    administrator. Within `one_at_a_time`."""
    return Statement(
        "UPDATE users SET email = 'closed-' || id, name = '', password_hash = '', role = 'user', disabled_at = $2,"
        " closed_at = $2, factor_seed = NULL, factor_key = NULL, factor_step = 0, factor_at = NULL"
        f" WHERE id = $1 AND closed_at IS NULL AND {_OTHER_ADMIN}",
        (user_id, now_ms()),
        must=must,
    )
