-- A JSON text that parsers refuse, inside a document that others read.
-- @legacy
CREATE TABLE t (id int PRIMARY KEY, a text, j json);
INSERT INTO t VALUES (1, 'precious', '"\ud800"');
