-- How the tables of a destination are kept: formats, merge, retention, as JSON. Empty: the defaults.
ALTER TABLE destinations ADD COLUMN tables TEXT NOT NULL DEFAULT '';
