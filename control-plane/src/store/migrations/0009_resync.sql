-- What is to be read again, until a sync that carried it succeeds: `{}` is everything, else tables by schema, as JSON.
ALTER TABLE connections ADD COLUMN resync TEXT;
ALTER TABLE syncs ADD COLUMN resync TEXT;
