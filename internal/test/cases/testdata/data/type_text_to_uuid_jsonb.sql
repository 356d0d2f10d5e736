-- A UUID and a JSON text become values of their types.
-- @legacy
CREATE TABLE t (id int PRIMARY KEY, u text, j text);
INSERT INTO t VALUES (1, 'F47AC10B-58CC-4372-A567-0E02B2C3D479', '{"b":1,  "a":2}');
-- @target
CREATE TABLE t (id int PRIMARY KEY, u uuid, j jsonb);
