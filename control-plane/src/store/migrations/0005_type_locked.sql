-- Whether columns that a connection's destination has keep their types.
ALTER TABLE connections ADD COLUMN type_locked INTEGER NOT NULL DEFAULT 0;
