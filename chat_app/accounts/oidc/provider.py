"""The provider itself: where its parts are, its keys, and what it says of somebody who comes back from it.

Authlib speaks OAuth, joserfc verifies signatures; what a token must say besides stands here (OpenID Connect Core
3.1.3.7, Back-Channel Logout 2.6). It does not know who anybody is in Parley.
"""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import httpx2
from authlib.common.errors import AuthlibBaseError
from authlib.integrations.httpx_client import AsyncOAuth2Client
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from chat_app.accounts.oidc.claims import Claims
from chat_app.settings import Settings

PATIENCE_S = 10.0
KNOWN_S = 3_600.0
"""How long the provider's addresses and keys are believed without asking again."""
AGAIN_S = 10.0
"""Least time between two looks at its keys: a forged token names a key that there is not, as often as it likes. And
how long a look that failed is not tried again: nobody waits behind others for a provider that is away."""
LEEWAY_S = 60
"""How far the provider's clock may be from ours."""
ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "Ed25519", "EdDSA"]
"""Signatures by a key that only the provider has. Never `none`, nor one with a secret that we have as well."""
LOGOUT_EVENT = "http://schemas.openid.net/event/backchannel-logout"


class ProviderError(Exception):
    """The provider cannot be reached, or what it sent proves nothing. The text is for the operator's log."""


@dataclass(frozen=True, slots=True)
class EndedThere:
    """What a logout token names: one sign-in, or all of a person's (`session` empty)."""

    subject: str
    session: str


@dataclass(slots=True)
class _Known:
    metadata: dict[str, Any]
    keys: KeySet
    at: float


class Provider:
    """The provider that the settings name."""

    def __init__(self, settings: Settings) -> None:
        self._issuer = settings.oidc_issuer
        self._client_id = settings.oidc_client_id
        self._secret = settings.oidc_client_secret.get_secret_value()
        self._scopes = settings.oidc_scopes
        self._groups = settings.oidc_groups_claim
        self._trust_email = settings.oidc_emails == "all"
        self._known: _Known | None = None
        self._looking = asyncio.Lock()
        self._failed_at = -AGAIN_S

    @property
    def issuer(self) -> str:
        """As the settings have it; the name under which people's identities there are kept."""
        return self._issuer.rstrip("/")

    async def authorization_url(self, redirect_uri: str, state: str, nonce: str, verifier: str, *, fresh: bool) -> str:
        """Where to send the browser. `fresh`: even somebody who is signed in there proves it anew. Raises
        `ProviderError`."""
        known = await self._look()
        again = {"prompt": "login", "max_age": 0} if fresh else {}
        async with self._client(known, redirect_uri) as client:
            endpoint = _address(known, "authorization_endpoint")
            url, _ = client.create_authorization_url(  # type: ignore[no-untyped-call]
                endpoint, state=state, nonce=nonce, code_verifier=verifier, **again
            )
        return str(url)

    async def claims(self, redirect_uri: str, said: Mapping[str, str], nonce: str, verifier: str) -> Claims:
        """Who came back with the `code` in what was `said`. Raises `ProviderError`."""
        known = await self._look()
        # RFC 9207: else another provider's code could be mistaken for this one's.
        tells = known.metadata.get("authorization_response_iss_parameter_supported") is True
        if said.get("iss", "" if tells else known.metadata["issuer"]) != known.metadata["issuer"]:
            raise ProviderError("a code of another provider")
        try:
            async with self._client(known, redirect_uri) as client:
                tokens = await client.fetch_token(  # type: ignore[no-untyped-call]
                    _address(known, "token_endpoint"),
                    code=said.get("code", ""),
                    code_verifier=verifier,
                    grant_type="authorization_code",
                )
                found = await self._verified(str(tokens.get("id_token", "")), {"nonce": nonce})
                if "userinfo_endpoint" in known.metadata:
                    found = await self._with_userinfo(client, known, found)
            return Claims.read(found, groups=self._groups, trust_email=self._trust_email)
        except (httpx2.HTTPError, AuthlibBaseError, ValueError) as error:
            raise ProviderError(f"no tokens for the code: {error}") from error

    async def ended(self, logout_token: str) -> EndedThere:
        """What a logout token says has ended. Raises `ProviderError`."""
        found = await self._verified(logout_token, {})
        events = found.get("events")
        if "nonce" in found or not isinstance(events, Mapping) or LOGOUT_EVENT not in events:
            raise ProviderError("this is no logout token")
        subject, session = (found.get(name) or "" for name in ("sub", "sid"))
        if not isinstance(subject, str) or not isinstance(session, str) or not (subject or session):
            raise ProviderError("a logout token that names nobody")
        return EndedThere(subject, session)

    async def end_session_url(self, back: str) -> str:
        """Where a browser is sent to sign out there as well; empty if the provider has no such place. Raises
        `ProviderError`."""
        endpoint = (await self._look()).metadata.get("end_session_endpoint")
        if not endpoint:
            return ""
        query = urlencode({"client_id": self._client_id, "post_logout_redirect_uri": back})
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{query}"

    async def _verified(self, token: str, must_be: Mapping[str, str]) -> dict[str, Any]:
        """The claims of a token that the provider signed for us. Raises `ProviderError`."""
        known = await self._look()
        try:
            claims = _decoded(token, known.keys)
        except (JoseError, ValueError, TypeError):  # Perhaps by a key that is newer than what we know.
            known = await self._look(within_s=AGAIN_S)
            try:
                claims = _decoded(token, known.keys)
            except (JoseError, ValueError, TypeError) as error:
                raise ProviderError(f"a token whose signature is not the provider's: {error}") from error
        required: dict[str, Any] = {
            "iss": {"essential": True, "value": known.metadata["issuer"]},
            "aud": {"essential": True, "value": self._client_id},
            "exp": {"essential": True},
            "iat": {"essential": True},
            **{name: {"essential": True, "value": value} for name, value in must_be.items()},
            **({"sub": {"essential": True}} if must_be else {}),
        }
        try:
            jwt.JWTClaimsRegistry(leeway=LEEWAY_S, **required).validate(claims)
        except JoseError as error:
            raise ProviderError(f"a token that is not for this sign-in: {error}") from error
        audience, party = claims["aud"], claims.get("azp")
        several = isinstance(audience, list) and len(audience) > 1
        if (several or party is not None) and party != self._client_id:
            raise ProviderError("a token for another client")
        return claims

    async def _with_userinfo(self, client: AsyncOAuth2Client, known: _Known, found: dict[str, Any]) -> dict[str, Any]:
        response = await client.get(_address(known, "userinfo_endpoint"))
        response.raise_for_status()
        more = response.json()
        if not isinstance(more, dict) or more.get("sub") != found["sub"]:
            raise ProviderError("the userinfo is about somebody else")
        return {**more, **found}

    async def _look(self, within_s: float = KNOWN_S) -> _Known:
        """The provider's addresses and keys, not older than that. Raises `ProviderError`."""
        if (known := self._young(within_s)) is not None:
            return known
        async with self._looking:
            if (known := self._young(within_s)) is not None:
                return known
            if time.monotonic() - self._failed_at < AGAIN_S:
                raise ProviderError(f"{self._issuer} could not be read a moment ago")
            self._failed_at = time.monotonic()
            try:
                async with httpx2.AsyncClient(timeout=PATIENCE_S) as client:
                    metadata = await _json(client, f"{self.issuer}/.well-known/openid-configuration")
                    if str(metadata.get("issuer", "")).rstrip("/") != self.issuer:
                        raise ProviderError(f"it calls itself {metadata.get('issuer')!r}, not {self._issuer!r}")
                    keys = KeySet.import_key_set(await _json(client, str(metadata["jwks_uri"])))  # type: ignore[arg-type]
            except (httpx2.HTTPError, JoseError, ValueError, KeyError, TypeError) as error:
                raise ProviderError(f"{self._issuer} cannot be read: {error!r}") from error
            self._known, self._failed_at = _Known(metadata, keys, time.monotonic()), -AGAIN_S
            return self._known

    def _young(self, within_s: float) -> _Known | None:
        known = self._known
        return known if known is not None and time.monotonic() - known.at < within_s else None

    def _client(self, known: _Known, redirect_uri: str) -> AsyncOAuth2Client:
        ways = known.metadata.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
        way = "client_secret_basic" if "client_secret_basic" in ways else "client_secret_post"
        return AsyncOAuth2Client(  # type: ignore[no-untyped-call]
            self._client_id,
            self._secret or None,
            token_endpoint_auth_method=way if self._secret else "none",
            scope=self._scopes,
            redirect_uri=redirect_uri,
            code_challenge_method="S256",
            timeout=PATIENCE_S,
        )


def _decoded(token: str, keys: KeySet) -> dict[str, Any]:
    return dict(jwt.decode(token, keys, algorithms=ALGORITHMS).claims)


def _address(known: _Known, name: str) -> str:
    address = known.metadata.get(name)
    if not isinstance(address, str):
        raise ProviderError(f"the provider names no {name}")
    return address


async def _json(client: httpx2.AsyncClient, url: str) -> dict[str, Any]:
    response = await client.get(url)
    response.raise_for_status()
    found = response.json()
    if not isinstance(found, dict):
        raise ValueError(f"no object at {url}")
    return found
