-- Keys that are equal with zeros behind the point: one row must not be two records.
-- @legacy
CREATE TABLE t (id numeric PRIMARY KEY, a text);
INSERT INTO t VALUES (1.0, 'x'), (2, 'y');
-- @target
CREATE TABLE t (id numeric PRIMARY KEY, a text);
-- @change-legacy
UPDATE t SET id = 1.00 WHERE id = 1;
