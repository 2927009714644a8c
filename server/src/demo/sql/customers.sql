-- Private: for other services this table does not exist.
CREATE TABLE customer (id bigint PRIMARY KEY, name text NOT NULL, email text NOT NULL);

-- What they may know of it. The database keeps it, in the entry of whatever writes a customer.
CREATE MATERIALIZED VIEW public.customer_v1 AS SELECT id, name FROM customer;
GRANT READ ON customer_* TO orders, billing;
GRANT REFERENCES ON customer_v1 TO orders;
