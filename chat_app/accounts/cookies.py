"""The browser's cookies: their names, their attributes, and how they are found again in a header. It looks nothing up.

Four cookies: the session; the mark of a device that somebody has signed in from, which outlives the session; and for
minutes the way to the provider and back, or the proof that the password was given where a second factor is asked for,
which is no session.
Behind TLS their names begin with `__Host-`: no other site of the same domain can plant such a cookie. A token says by
its form under which name it was given and is found under no other, so one that was given safely cannot be planted
under the old name either, while sessions from before stay valid until they expire.
"""

from chat_app.accounts.tokens import is_host_token, is_token

NAME = "parley_session"
DEVICE = "parley_device"
FLOW = "parley_oidc"
HALF = "parley_half"
HOST = "__Host-"

DEVICE_DAYS = 400
"""As long as browsers keep any cookie."""

_DAY_S = 86_400


def set_cookie(token: str, days: int) -> str:
    """The value of a `Set-Cookie` header that signs the browser in for `days`. Scripts cannot read the cookie."""
    return _set(NAME, token, days * _DAY_S)


def device_cookie(token: str) -> str:
    """The value of a `Set-Cookie` header that marks the browser as one that somebody has signed in from."""
    return _set(DEVICE, token, DEVICE_DAYS * _DAY_S)


def flow_cookie(token: str, seconds: int) -> str:
    """The value of a `Set-Cookie` header for a browser that is sent to the provider and comes back soon."""
    return _set(FLOW, token, seconds)


def flow_from(cookie_header: str) -> str | None:
    """The token of that way in a `Cookie` header, or None."""
    return _found(FLOW, cookie_header)


def half_cookie(token: str, seconds: int) -> str:
    """The value of a `Set-Cookie` header for a browser in which the password was given, and the code was not yet."""
    return _set(HALF, token, seconds)


def clear_cookies() -> tuple[str, ...]:
    """The values of the `Set-Cookie` headers that sign the browser out, under whichever name it was signed in."""
    return _cleared(NAME)


def clear_half() -> tuple[str, ...]:
    """The same for the proof that waits for a code."""
    return _cleared(HALF)


def token_from(cookie_header: str) -> str | None:
    """The session token in a `Cookie` header, or None. Other sites' odd cookies beside it do no harm."""
    return _found(NAME, cookie_header)


def cookie_of(token: str) -> str:
    """The `Cookie` header of a browser that has this session's token, under the name that the token is found by."""
    return f"{_name(NAME, token)}={token}"


def device_from(cookie_header: str) -> str | None:
    """The token of the device in a `Cookie` header, or None."""
    return _found(DEVICE, cookie_header)


def half_from(cookie_header: str) -> str | None:
    """The proof that the password was given, in a `Cookie` header, or None."""
    return _found(HALF, cookie_header)


def _cleared(base: str) -> tuple[str, ...]:
    return tuple(f"{name}=; Max-Age=0; {_attributes(name)}" for name in (HOST + base, base))


def _found(base: str, cookie_header: str) -> str | None:
    plain = None
    for part in cookie_header.split(";"):
        name, _, value = part.strip().partition("=")
        if name == HOST + base and is_token(value) and is_host_token(value):
            return value
        if name == base and is_token(value) and not is_host_token(value):
            plain = plain or value
    return plain


def _set(base: str, token: str, seconds: int) -> str:
    name = _name(base, token)
    return f"{name}={token}; Max-Age={seconds}; {_attributes(name)}"


def _name(base: str, token: str) -> str:
    return HOST + base if is_host_token(token) else base


def _attributes(name: str) -> str:
    # Lax: a link from elsewhere opens the app signed in, a form posted from elsewhere comes without the cookie.
    return "Path=/; HttpOnly; SameSite=Lax" + ("; Secure" if name.startswith(HOST) else "")
