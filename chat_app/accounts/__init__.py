"""Accounts: tenants, people, their browser sessions, devices and API keys, and their roles.

Knows who somebody is and how they prove it. Does not know what they may spend or what they say.
Its own tables: tenant, users, browser_session, half_sign_in, recovery_code, known_device, setup_code, api_key,
external_identity, oidc_flow.
"""
