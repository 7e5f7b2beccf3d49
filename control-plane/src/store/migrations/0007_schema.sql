-- What becomes of tables and columns that appear at the source; whether a person ever decided.
ALTER TABLE connections ADD COLUMN schema_change_handling TEXT NOT NULL DEFAULT 'ALLOW_ALL';
ALTER TABLE connections ADD COLUMN schema_configured INTEGER NOT NULL DEFAULT 0;
-- Schemas (table_name and column_name empty), tables (column_name empty) and columns, as syncs saw them or a person named
-- them. Names, or the hashes that an agent tells instead; label_key says which agent's.
CREATE TABLE schema_items (
  connection_id TEXT NOT NULL REFERENCES connections (id) ON DELETE CASCADE,
  schema_name TEXT NOT NULL, table_name TEXT NOT NULL, column_name TEXT NOT NULL,
  enabled INTEGER, hashed INTEGER NOT NULL DEFAULT 0, touched INTEGER NOT NULL DEFAULT 0,
  captured INTEGER NOT NULL DEFAULT 0, is_key INTEGER NOT NULL DEFAULT 0, label_key TEXT,
  PRIMARY KEY (connection_id, schema_name, table_name, column_name)
) WITHOUT ROWID;
