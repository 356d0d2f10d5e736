-- A date becomes the midnight of that day.
-- @legacy
CREATE TABLE t (id int PRIMARY KEY, c date);
INSERT INTO t VALUES (1, '2024-02-29');
-- @target
CREATE TABLE t (id int PRIMARY KEY, c timestamp);
