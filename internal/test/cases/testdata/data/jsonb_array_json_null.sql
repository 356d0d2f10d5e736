-- The JSON value null in an array is not SQL NULL.
-- @legacy
CREATE TABLE t (id int PRIMARY KEY, j jsonb[]);
INSERT INTO t VALUES (1, ARRAY['null'::jsonb, NULL]), (2, ARRAY[ARRAY['null'::jsonb], ARRAY['1'::jsonb]]);
-- @target
CREATE TABLE t (id int PRIMARY KEY, j jsonb[]);
-- @change-target
UPDATE t SET j = ARRAY[NULL::jsonb, 'null'::jsonb] WHERE id = 1;
