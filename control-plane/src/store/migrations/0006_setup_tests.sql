-- What the last setup tests of a connection came to, as replies show it: a JSON array of our own words.
ALTER TABLE connections ADD COLUMN setup_tests TEXT NOT NULL DEFAULT '[]';
