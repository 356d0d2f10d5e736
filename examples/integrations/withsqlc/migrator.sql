-- For sqlc alone, never applied: the function that migrator installs in legacy. The name of
-- the type is an invention, so that sqlc.yaml can map it and no other text.
CREATE SCHEMA migrator_legacy;

CREATE FUNCTION migrator_legacy.version(migration text) RETURNS migrator_legacy.version_text
LANGUAGE sql AS '';
