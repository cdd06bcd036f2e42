"""Keys that look real and are not: put together at run time, so that no scanner takes this file for a leak."""

from random import Random

ALPHABETS = {
    "word": "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789",
    "upper": "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567",
    "digit": "0123456789",
    "hex": "0123456789abcdef",
}


def body(length: int, alphabet: str = "word", seed: int = 7) -> str:
    """Random characters, the same for the same arguments."""
    return "".join(Random(f"{length} {alphabet} {seed}").choices(ALPHABETS[alphabet], k=length))


KEYS: dict[str, str] = {
    "aws_access_key": "AKIA" + body(16, "upper"),
    "aws_secret_key": 'aws_secret_access_key = "' + body(40) + '"',
    "github_token": "ghp_" + body(36),
    "github_fine_token": "github_pat_" + body(82),
    "gitlab_token": "glpat-" + body(20),
    "parley_key": "sk-parley-" + body(43),
    "anthropic_key": "sk-ant-" + "api03-" + body(90),
    "openai_project_key": "sk-proj-" + body(120),
    "openai_key": "sk-" + body(20) + "T3BlbkFJ" + body(20, seed=8),
    "openrouter_key": "sk-or-v1-" + body(64, "hex"),
    "huggingface_token": "hf_" + body(34),
    "slack_token": "xoxb-" + body(12, "digit", 2) + "-" + body(24),
    "slack_app_token": "xapp-1-" + body(60),
    "slack_webhook": "https://hooks.slack.com/services/T" + body(8) + "/B" + body(10) + "/" + body(24),
    "stripe_key": "sk_live_" + body(24),
    "stripe_webhook_secret": "whsec_" + body(32),
    "google_api_key": "AIza" + body(35),
    "google_client_secret": "GOCSPX-" + body(28),
    "google_refresh_token": "1//0" + body(80),
    "sendgrid_key": "SG." + body(22) + "." + body(43),
    "npm_token": "npm_" + body(36),
    "pypi_token": "pypi-AgEIcHlwaS5vcmc" + body(120),
    "digitalocean_token": "dop_v1_" + body(64, "hex"),
    "private_key": "-----BEGIN RSA PRIVATE KEY-----\n" + body(64) + "\n" + body(64, seed=9),
    "jwt": "eyJ" + body(33) + ".eyJ" + body(60) + "." + body(43),
}
"""One of each kind, by the id of its rule."""
