-- A trigger of the target stamps each row.
-- @legacy
CREATE TABLE t (id int PRIMARY KEY, a text, updated_at timestamptz);
INSERT INTO t VALUES (1, 'x', '2024-01-01Z'), (2, 'y', '2024-01-02Z');
-- @target
CREATE TABLE t (id int PRIMARY KEY, a text, updated_at timestamptz);
CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN NEW.updated_at = now(); RETURN NEW; END$$;
CREATE TRIGGER stamp BEFORE INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION stamp();
