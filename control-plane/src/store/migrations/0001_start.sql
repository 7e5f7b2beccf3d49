-- Instants are microseconds since 1970 (…_us). No column holds a readable secret: see sealed_values.
CREATE TABLE api_keys (
  id TEXT PRIMARY KEY, salt BLOB NOT NULL, hash BLOB NOT NULL, created_us INTEGER NOT NULL
) STRICT;

CREATE TABLE groups (
  id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, created_us INTEGER NOT NULL
) STRICT;

-- The id of a destination is the id of its group.
CREATE TABLE destinations (
  id TEXT PRIMARY KEY REFERENCES groups (id), service TEXT NOT NULL, uri TEXT NOT NULL, region TEXT NOT NULL,
  time_zone_offset TEXT NOT NULL, agent_id TEXT, created_us INTEGER NOT NULL
) STRICT;

CREATE TABLE packages (
  id TEXT PRIMARY KEY, sha256 TEXT NOT NULL, bytes INTEGER NOT NULL, created_by TEXT NOT NULL,
  created_us INTEGER NOT NULL, updated_us INTEGER NOT NULL
) STRICT;

CREATE TABLE agents (
  id TEXT PRIMARY KEY, name TEXT NOT NULL, group_id TEXT REFERENCES groups (id), deployment TEXT NOT NULL,
  created_by TEXT NOT NULL, created_us INTEGER NOT NULL, updated_us INTEGER NOT NULL,
  enrolled_us INTEGER, revoked_us INTEGER, last_seen_us INTEGER,
  identity BLOB, sealing BLOB, renewal_counter INTEGER NOT NULL DEFAULT 0, mode TEXT, version TEXT
) STRICT;

-- The secret of a token is derived from the root key; it is in no table.
CREATE TABLE join_tokens (
  id TEXT PRIMARY KEY, agent_id TEXT NOT NULL REFERENCES agents (id), expires_us INTEGER NOT NULL, used_by BLOB
) STRICT;

CREATE TABLE connections (
  id TEXT PRIMARY KEY, group_id TEXT NOT NULL REFERENCES groups (id), service TEXT NOT NULL, schema_name TEXT NOT NULL,
  naming TEXT NOT NULL, package_id TEXT REFERENCES packages (id), python_version TEXT, agent_id TEXT,
  paused INTEGER NOT NULL, frequency INTEGER NOT NULL, manual INTEGER NOT NULL, networking TEXT NOT NULL,
  connected_by TEXT NOT NULL, created_us INTEGER NOT NULL, succeeded_us INTEGER, failed_us INTEGER,
  rescheduled_us INTEGER, attempt INTEGER NOT NULL DEFAULT 0, historical INTEGER NOT NULL DEFAULT 1,
  UNIQUE (group_id, schema_name)
) STRICT;

-- A setting is a reference, kept as text, or sealed once per agent (sealed_values).
CREATE TABLE settings (
  connection_id TEXT NOT NULL REFERENCES connections (id) ON DELETE CASCADE, position INTEGER NOT NULL,
  key TEXT NOT NULL, reference TEXT, PRIMARY KEY (connection_id, key)
) STRICT;
CREATE TABLE sealed_values (
  connection_id TEXT NOT NULL, key TEXT NOT NULL, agent_id TEXT NOT NULL REFERENCES agents (id),
  sealing BLOB NOT NULL, data BLOB NOT NULL, PRIMARY KEY (connection_id, key, agent_id),
  FOREIGN KEY (connection_id, key) REFERENCES settings (connection_id, key) ON DELETE CASCADE
) STRICT;

-- One row per sync. `lease`, `generation`, `agent_id` say who holds it; `ended` is 1 once it is terminal.
CREATE TABLE syncs (
  id TEXT PRIMARY KEY, connection_id TEXT NOT NULL, group_id TEXT NOT NULL, trigger_kind TEXT NOT NULL,
  historical INTEGER NOT NULL, status TEXT NOT NULL, ended INTEGER NOT NULL DEFAULT 0, attempt INTEGER NOT NULL,
  queued_us INTEGER NOT NULL, started_us INTEGER, finished_us INTEGER, package_id TEXT, python_version TEXT,
  agent_id TEXT, generation INTEGER NOT NULL DEFAULT 0, lease TEXT NOT NULL DEFAULT 'queued',
  lease_us INTEGER NOT NULL DEFAULT 0, cancel_us INTEGER,
  upserts INTEGER NOT NULL DEFAULT 0, updates INTEGER NOT NULL DEFAULT 0, deletes INTEGER NOT NULL DEFAULT 0,
  truncates INTEGER NOT NULL DEFAULT 0, bytes INTEGER NOT NULL DEFAULT 0, checkpoints INTEGER NOT NULL DEFAULT 0,
  last_checkpoint_us INTEGER, state_bytes INTEGER, delivery TEXT, code TEXT, nothing_moved TEXT,
  rescheduled_us INTEGER, warnings TEXT NOT NULL DEFAULT '[]', tables TEXT NOT NULL DEFAULT '[]'
) STRICT;
CREATE INDEX syncs_by_connection ON syncs (connection_id, queued_us DESC, id DESC);
CREATE INDEX syncs_live ON syncs (ended, queued_us) WHERE ended = 0;

-- Every outcome that was ever acknowledged, once. `counted` is 0 for one of a superseded generation.
CREATE TABLE outcomes (
  sync_id TEXT NOT NULL, generation INTEGER NOT NULL, head_seq INTEGER NOT NULL, agent_id TEXT NOT NULL,
  result TEXT NOT NULL, received_us INTEGER NOT NULL, counted INTEGER NOT NULL,
  PRIMARY KEY (sync_id, generation, head_seq)
) STRICT;
