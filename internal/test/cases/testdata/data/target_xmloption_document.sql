-- The target database takes whole XML documents alone.
-- @legacy
CREATE TABLE t (id int PRIMARY KEY, x xml);
INSERT INTO t VALUES (1, '<a/><b/>');
-- @target
CREATE TABLE t (id int PRIMARY KEY, x xml);
ALTER DATABASE :target SET xmloption = 'document';
