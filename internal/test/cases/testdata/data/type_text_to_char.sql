-- The target pads a text with blanks.
-- @legacy
CREATE TABLE t (id int PRIMARY KEY, c text);
INSERT INTO t VALUES (1, 'ab');
-- @target
CREATE TABLE t (id int PRIMARY KEY, c char(5));
