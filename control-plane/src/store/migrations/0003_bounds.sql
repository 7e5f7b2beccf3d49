-- What a connection's connector may reach (a JSON list of rules) and use; NULL: what the agent's policy gives to everybody.
ALTER TABLE connections ADD COLUMN egress TEXT;
ALTER TABLE connections ADD COLUMN memory_bytes INTEGER;
ALTER TABLE connections ADD COLUMN cpu_percent INTEGER;
ALTER TABLE connections ADD COLUMN scratch_bytes INTEGER;
