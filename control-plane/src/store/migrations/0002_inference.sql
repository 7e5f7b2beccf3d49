-- How the types of undeclared columns follow from the connector's values: compatible, strict or rich.
ALTER TABLE connections ADD COLUMN inference TEXT NOT NULL DEFAULT 'compatible';
