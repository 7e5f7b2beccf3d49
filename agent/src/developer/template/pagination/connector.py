"""Four ways in which APIs hand out pages, one table each. Keep the one that your API uses.

Configuration: `base_url`. Each function yields lists of rows and nothing else: `update` does not care how.
"""

import requests
from fivetran_connector_sdk import Connector
from fivetran_connector_sdk import Logging as log
from fivetran_connector_sdk import Operations as op

PAGE_ROWS = 50
TIMEOUT_SECONDS = 30


def schema(configuration):
    return [{"table": table, "primary_key": ["id"]} for table in STYLES]


def update(configuration, state):
    base_url = configuration["base_url"].rstrip("/")
    with requests.Session() as session:
        for table, pages in STYLES.items():
            log.info(f"reading {table}")
            for rows in pages(session, base_url):
                for row in rows:
                    op.upsert(table, row)
                op.checkpoint(state)


def by_page_number(session, base_url):
    """?page=1, 2, 3 … until a page is short."""
    page = 1
    while True:
        rows = get(session, f"{base_url}/by-page", {"page": page, "per_page": PAGE_ROWS}).json()["rows"]
        yield rows
        if len(rows) < PAGE_ROWS:
            return
        page += 1


def by_offset(session, base_url):
    """?offset=0, 50, 100 … until the total is reached. Rows that are inserted meanwhile shift the pages: prefer another
    way where the API has one."""
    offset, total = 0, 1
    while offset < total:
        answer = get(session, f"{base_url}/by-offset", {"offset": offset, "limit": PAGE_ROWS}).json()
        yield answer["rows"]
        if not answer["rows"]:
            return
        offset += len(answer["rows"])
        total = answer["total"]


def by_cursor(session, base_url):
    """Each answer names the next page by an opaque token."""
    cursor = None
    while True:
        parameters = {"limit": PAGE_ROWS} if cursor is None else {"limit": PAGE_ROWS, "cursor": cursor}
        answer = get(session, f"{base_url}/by-cursor", parameters).json()
        yield answer["rows"]
        cursor = answer.get("next_cursor")
        if not cursor:
            return


def by_link(session, base_url):
    """Each answer carries the address of the next page in its Link header."""
    url = f"{base_url}/by-link?limit={PAGE_ROWS}"
    while url:
        response = get(session, url, None)
        yield response.json()["rows"]
        url = response.links.get("next", {}).get("url")


def get(session, url, parameters):
    response = session.get(url, params=parameters, timeout=TIMEOUT_SECONDS)
    response.raise_for_status()
    return response


STYLES = {"by_page_number": by_page_number, "by_offset": by_offset, "by_cursor": by_cursor, "by_link": by_link}

connector = Connector(update=update, schema=schema)
