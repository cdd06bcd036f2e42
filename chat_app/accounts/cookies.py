"""The browser's cookie: its name, its attributes, and how it is found again in a header. It looks nothing
up."""

from chat_app.accounts.tokens import is_token

NAME = "parley_session"
_DAY_S = 86_400


def set_cookie(token: str, days: int, *, secure: bool) -> str:
    """The value of a `Set-Cookie` header that signs the browser in for `days`. Scripts cannot read the
    cookie."""
    return f"{NAME}={token}; Max-Age={days * _DAY_S}; {_attributes(secure)}"


def clear_cookie(*, secure: bool) -> str:
    """The value of a `Set-Cookie` header that signs the browser out."""
    return f"{NAME}=; Max-Age=0; {_attributes(secure)}"


def token_from(cookie_header: str) -> str | None:
    """The session token in a `Cookie` header, or None. Other sites' odd cookies beside it do no harm."""
    for part in cookie_header.split(";"):
        name, _, value = part.strip().partition("=")
        if name == NAME and is_token(value):
            return value
    return None


def _attributes(secure: bool) -> str:
    # Lax: a link from elsewhere opens the app signed in, a form posted from elsewhere comes without the
    # cookie.
    return "Path=/; HttpOnly; SameSite=Lax" + ("; Secure" if secure else "")
