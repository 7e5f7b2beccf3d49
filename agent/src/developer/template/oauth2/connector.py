"""Reads a REST API behind OAuth2: client credentials, with a token that is renewed before it expires.

Configuration: `token_url`, `client_id`, `client_secret`, `base_url`, optionally `scope`.
"""

import time

import requests
from fivetran_connector_sdk import Connector
from fivetran_connector_sdk import Logging as log
from fivetran_connector_sdk import Operations as op

TIMEOUT_SECONDS = 30
# A token that expires while a request travels is of no use.
RENEW_BEFORE_SECONDS = 60


def schema(configuration):
    return [{"table": "users", "primary_key": ["id"]}]


def update(configuration, state):
    api = Api(configuration)
    last = state.get("last_id", 0)
    while True:
        users = api.get("/users", {"after": last, "limit": 100})["users"]
        for user in users:
            op.upsert("users", user)
            last = user["id"]
        op.checkpoint({"last_id": last})
        if not users:
            return


class Tokens:
    """Access tokens of one client. They live in memory only: never put them into the state."""

    def __init__(self, configuration):
        self.configuration = configuration
        self.access_token = None
        self.refresh_token = None
        self.expires_at = 0.0

    def current(self):
        if self.access_token is None or time.monotonic() > self.expires_at - RENEW_BEFORE_SECONDS:
            self.renew()
        return self.access_token

    def renew(self):
        if self.refresh_token is not None and self.ask({"grant_type": "refresh_token", "refresh_token": self.refresh_token}):
            return
        self.refresh_token = None
        grant = {"grant_type": "client_credentials"}
        if self.configuration.get("scope"):
            grant["scope"] = self.configuration["scope"]
        if not self.ask(grant):
            raise PermissionError("the token endpoint refuses client_id and client_secret")

    def ask(self, grant):
        """Whether the endpoint gave a token."""
        client = (self.configuration["client_id"], self.configuration["client_secret"])
        response = requests.post(self.configuration["token_url"], data=grant, auth=client, timeout=TIMEOUT_SECONDS)
        if response.status_code in (400, 401, 403):
            return False
        response.raise_for_status()
        answer = response.json()
        self.access_token = answer["access_token"]
        self.refresh_token = answer.get("refresh_token", self.refresh_token)
        self.expires_at = time.monotonic() + float(answer.get("expires_in", 3600))
        log.fine("got an access token")
        return True


class Api:
    """The API with its token; a token that the server no longer takes is renewed once."""

    def __init__(self, configuration):
        self.base_url = configuration["base_url"].rstrip("/")
        self.tokens = Tokens(configuration)

    def get(self, path, parameters):
        response = self.send(path, parameters)
        if response.status_code == 401:
            log.info("the access token is no longer taken; renewing it")
            self.tokens.renew()
            response = self.send(path, parameters)
        response.raise_for_status()
        return response.json()

    def send(self, path, parameters):
        headers = {"Authorization": f"Bearer {self.tokens.current()}"}
        return requests.get(self.base_url + path, params=parameters, headers=headers, timeout=TIMEOUT_SECONDS)


connector = Connector(update=update, schema=schema)
