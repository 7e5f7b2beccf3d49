-- A setting has a purpose: a value of the connector's configuration, or a variable of its environment.
CREATE TABLE settings_new (
  connection_id TEXT NOT NULL REFERENCES connections (id) ON DELETE CASCADE, purpose TEXT NOT NULL,
  position INTEGER NOT NULL, key TEXT NOT NULL, reference TEXT, PRIMARY KEY (connection_id, purpose, key)
) STRICT;
CREATE TABLE sealed_values_new (
  connection_id TEXT NOT NULL, purpose TEXT NOT NULL, key TEXT NOT NULL, agent_id TEXT NOT NULL REFERENCES agents (id),
  sealing BLOB NOT NULL, data BLOB NOT NULL, PRIMARY KEY (connection_id, purpose, key, agent_id),
  FOREIGN KEY (connection_id, purpose, key) REFERENCES settings_new (connection_id, purpose, key) ON DELETE CASCADE
) STRICT;
INSERT INTO settings_new SELECT connection_id, 'configuration', position, key, reference FROM settings;
INSERT INTO sealed_values_new SELECT connection_id, 'configuration', key, agent_id, sealing, data FROM sealed_values;
DROP TABLE sealed_values;
DROP TABLE settings;
ALTER TABLE settings_new RENAME TO settings;
ALTER TABLE sealed_values_new RENAME TO sealed_values;
