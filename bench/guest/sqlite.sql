-- A database in memory: bulk insert, indexes, look-ups by key, joins, aggregation, sorting, text, updates and deletes.
-- All values come from a generator of its own, so that every side does the same work and prints the same lines.
CREATE TABLE item(id INTEGER PRIMARY KEY, a INTEGER, b INTEGER, name TEXT);
BEGIN;
WITH RECURSIVE n(i, x) AS (SELECT 1, 12345 UNION ALL SELECT i + 1, (x * 1103515245 + 12345) % 2147483648 FROM n WHERE i < 60000)
INSERT INTO item SELECT i, x % 1000, x / 1000 % 5000, printf('item-%08x', x) FROM n;
COMMIT;
CREATE INDEX by_a ON item(a);
CREATE INDEX by_name ON item(name);
CREATE TABLE total(a INTEGER PRIMARY KEY, n INTEGER, s INTEGER);
INSERT INTO total SELECT a, count(*), sum(b) FROM item GROUP BY a;
SELECT count(*), sum(x.b + y.n) FROM item AS x JOIN total AS y ON y.a = x.b % 1000;
SELECT count(*) FROM item AS x JOIN item AS y ON y.a = x.id WHERE x.id < 500;
SELECT sum(length(name)), count(DISTINCT b) FROM item WHERE name LIKE '%a3%' OR name > 'item-4';
SELECT group_concat(name) FROM (SELECT name FROM item ORDER BY b DESC, name LIMIT 5);
BEGIN;
UPDATE item SET b = b + 1, name = upper(name) WHERE a % 3 = 0;
DELETE FROM item WHERE a % 7 = 0;
COMMIT;
SELECT count(*), sum(b), min(name), max(name) FROM item;
