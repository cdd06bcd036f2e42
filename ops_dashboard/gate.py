"""Who may look: asked of the running app over HTTP, by the same two routes that a browser uses.

`POST /auth/login` answers with the session cookie, `GET /auth/session` says whose it is. Someone who has signed in to
the app on the same host is known already: browsers send its cookie to every port of a host. It knows no password
rules and keeps nothing.
"""

from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

import httpx

COOKIES = ("__Host-parley_session", "parley_session")
"""Names of the session's cookie: behind TLS the first. A token is accepted under the name it was given alone, so it is
sent under both."""
MAY_LOOK = ("admin", "staff")
DEFAULT_ADDRESS = "http://localhost:3000"

_REASONS = {
    "bad_credentials": "The e-mail address or the password is wrong.",
    "account_disabled": "This account has been disabled. Ask your administrator.",
    "storage_unavailable": "Parley cannot reach its database at the moment.",
}


class GateError(Exception):
    """Nobody could be let in; the message says why, in plain words."""


@dataclass(frozen=True, slots=True)
class Person:
    """Someone with a session in the app."""

    email: str
    name: str
    role: str

    @property
    def may_look(self) -> bool:
        return self.role in MAY_LOOK


@dataclass(frozen=True, slots=True)
class Gate:
    """The app at `address`."""

    address: str
    transport: httpx.BaseTransport | None = None

    def sign_in(self, email: str, password: str) -> str:
        """The token of a new session. Raises `GateError`."""
        answer = self._ask("POST", "/auth/login", data={"email": email, "password": password, "back": "/login"})
        for name in COOKIES:
            if token := answer.cookies.get(name):
                return token
        said = parse_qs(urlsplit(answer.headers.get("location", "")).query)
        reason = said.get("error", [""])[0]
        if said.get("step") == ["code"]:
            raise GateError(
                "This account has a second factor. Sign in to Parley in this browser, under the same host name, and"
                " come back: then you are known here."
            )
        if wait := said.get("wait"):
            why = "Parley is busy." if reason == "busy" else "Too many attempts."
            raise GateError(f"{why} Try again in {wait[0]} s.")
        raise GateError(_REASONS.get(reason, "Parley did not accept this. Check the e-mail address and the password."))

    def sign_out(self, token: str) -> None:
        """End the session. Raises `GateError`."""
        self._ask("POST", "/auth/logout", token)

    def who(self, token: str) -> Person | None:
        """Whose session this is; None if it is none, or has ended. Raises `GateError`."""
        answer = self._ask("GET", "/auth/session", token)
        try:
            user = answer.json()["user"] if answer.status_code == 200 else None
            return Person(str(user["email"]), str(user.get("name", "")), str(user["role"])) if user else None
        except (ValueError, KeyError, TypeError, AttributeError):
            raise GateError(f"What answers at {self.address} is not Parley.") from None

    def _ask(self, method: str, path: str, token: str = "", data: dict[str, str] | None = None) -> httpx.Response:
        cookies = dict.fromkeys(COOKIES, token) if token else None
        try:
            # No proxy of the environment stands between two processes of one installation.
            with httpx.Client(
                base_url=self.address, timeout=5, trust_env=False, transport=self.transport, cookies=cookies
            ) as client:
                answer = client.request(method, path, data=data)
        except (httpx.HTTPError, httpx.InvalidURL):
            raise GateError(
                f"Parley does not answer at {self.address}. Start it with `make run`, or set PARLEY_PUBLIC_URL to its "
                "address."
            ) from None
        if answer.status_code >= 500:
            raise GateError("Parley is in trouble itself at the moment; see its log.")
        return answer
