"""Reads what changed since the last sync from a REST API, page by page.

The API is expected to answer `GET {base_url}/items?updated_since=…&page=…&page_size=…` with

    {"items": [{"id": 1, "updated_at": "2024-05-01T10:00:00Z", "deleted": false, …}], "has_more": true}

in the order of `updated_at`. Change `items_since` to what your API does.
"""

import time

import requests
from fivetran_connector_sdk import Connector
from fivetran_connector_sdk import Logging as log
from fivetran_connector_sdk import Operations as op

BEGINNING = "1970-01-01T00:00:00Z"
TIMEOUT_SECONDS = 30
ATTEMPTS = 5
WORTH_ANOTHER_TRY = {429, 500, 502, 503, 504}


def schema(configuration):
    return [{"table": "items", "primary_key": ["id"], "columns": {"updated_at": "UTC_DATETIME"}}]


def update(configuration, state):
    cursor = state.get("updated_since", BEGINNING)
    log.info(f"reading items that changed since {cursor}")
    for page in items_since(configuration, cursor):
        for item in page:
            if item.pop("deleted", False):
                op.delete("items", {"id": item["id"]})
            else:
                op.upsert("items", item)
            cursor = max(cursor, item["updated_at"])
        # After every page: a run that is interrupted goes on from here. The boundary is read again, which is harmless,
        # since rows are written by key.
        op.checkpoint({"updated_since": cursor})


def items_since(configuration, cursor):
    """Pages of items, as lists."""
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {configuration['api_key']}"
    parameters = {"updated_since": cursor, "page": 1, "page_size": configuration.get("page_size", "100")}
    while True:
        answer = get(session, f"{configuration['base_url'].rstrip('/')}/items", parameters)
        yield answer["items"]
        if not answer["has_more"]:
            return
        parameters["page"] += 1


def get(session, url, parameters):
    """The JSON of an answer; waits and tries again when the server is busy."""
    for attempt in range(1, ATTEMPTS + 1):
        response = session.get(url, params=parameters, timeout=TIMEOUT_SECONDS)
        if response.status_code in WORTH_ANOTHER_TRY and attempt < ATTEMPTS:
            wait = waiting_time(response, attempt)
            log.warning(f"{url} answered {response.status_code}; trying again in {wait:.0f} s")
            time.sleep(wait)
            continue
        response.raise_for_status()
        return response.json()


def waiting_time(response, attempt):
    try:
        return min(float(response.headers["Retry-After"]), 60.0)
    except (KeyError, ValueError):
        return float(2**attempt)


connector = Connector(update=update, schema=schema)
