-- A column comes after a clean full reconcile: what is moved is what was applied.
-- @legacy
CREATE TABLE t (id int PRIMARY KEY, a text);
INSERT INTO t VALUES (1, 'x'), (2, 'y');
-- @change-legacy
ALTER TABLE t ADD COLUMN b text DEFAULT 'new';
