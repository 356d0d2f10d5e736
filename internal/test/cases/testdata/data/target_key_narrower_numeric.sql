-- The target rounds the key.
-- @legacy
CREATE TABLE t (id numeric(10,4) PRIMARY KEY, a text);
INSERT INTO t VALUES (1.0001, 'a'), (1.0002, 'b'), (2, 'c');
-- @target
CREATE TABLE t (id numeric(10,2) PRIMARY KEY, a text);
