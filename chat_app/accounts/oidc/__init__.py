"""Signing in through an OpenID Connect provider: Keycloak, Auth0, Entra and their like.

`provider` speaks with it, `flows` remembers who was sent there, `external` knows whose account is whose there.
"""

from chat_app.accounts.oidc.external import WORDS, ExternalSignIn, Finished
from chat_app.accounts.oidc.provider import ProviderError

__all__ = ["WORDS", "ExternalSignIn", "Finished", "ProviderError"]
